/* Open addressing without deletions. At most half of the slots are taken. */

#include <string.h>

#include "words.h"

enum { FIRST_BITS = 6, REACH = 128 };

static inline size_t behind(const Table *table, size_t slot)
{
    return (slot + 1) & (table->size - 1);
}

static inline const void *characters_of(const Entry *entry)
{
    return entry->ids + entry->count;
}

/* Whether a part with the same hash is the same. */
static bool is_same(const Entry *entry, const Text *text, const Part *part)
{
    const void *characters = characters_of(entry);
    if (entry->length != part->end - part->start)
        return false;
    if (entry->kind == text->kind)
        return !memcmp(characters, (const char *)text->characters + part->start * text->kind,
                       (size_t)(entry->length * entry->kind));
    for (Py_ssize_t at = 0; at < entry->length; at++)
        if (PyUnicode_READ(entry->kind, characters, at) !=
            PyUnicode_READ(text->kind, text->characters, part->start + at))
            return false;
    return true;
}

const Entry *table_search(const Table *table, const Text *text, const Part *part)
{
    size_t at = part->hash >> table->shift;
    for (int step = 0; step < REACH; step++, at = behind(table, at)) {
        const Slot *slot = &table->slots[at];
        if (!slot->entry)
            return NULL;
        if (slot->hash == part->hash && is_same(slot->entry, text, part))
            return slot->entry;
    }
    return NULL;
}

static void free_entry(Entry *entry)
{
    for (uint32_t at = 0; at < entry->count; at++)
        Py_DECREF(entry->ids[at]);
    PyMem_Free(entry);
}

/* Takes the entry over. */
static void insert(Table *table, uint64_t hash, Entry *entry)
{
    size_t at = hash >> table->shift;
    for (int step = 0; step < REACH; step++, at = behind(table, at))
        if (!table->slots[at].entry) {
            table->slots[at] = (Slot){hash, entry};
            table->used++;
            return;
        }
    free_entry(entry);
}

static bool make_slots(Table *table, int bits)
{
    table->slots = PyMem_Calloc((size_t)1 << bits, sizeof *table->slots);
    table->size = (size_t)1 << bits;
    table->used = 0;
    table->shift = 64 - bits;
    return table->slots;
}

bool table_open(Table *table, uint64_t seed)
{
    table->seed = seed;
    return make_slots(table, FIRST_BITS);
}

static bool make_room(Table *table)
{
    if (table->used < table->size / 2)
        return true;
    Table larger = {.seed = table->seed};
    if (!make_slots(&larger, 64 - table->shift + 1))
        return false;
    for (size_t at = 0; at < table->size; at++)
        if (table->slots[at].entry)
            insert(&larger, table->slots[at].hash, table->slots[at].entry);
    PyMem_Free(table->slots);
    *table = larger;
    return true;
}

bool table_add(Table *table, const Text *text, const Part *part, PyObject *const *ids, uint32_t count)
{
    size_t size = (size_t)(part->end - part->start) * (size_t)text->kind;
    Entry *entry = make_room(table) ? PyMem_Malloc(sizeof *entry + count * sizeof *ids + size) : NULL;
    if (!entry)
        return false;
    *entry = (Entry){.length = part->end - part->start, .kind = text->kind, .count = count};
    for (uint32_t at = 0; at < count; at++)
        entry->ids[at] = Py_NewRef(ids[at]);
    memcpy(entry->ids + count, (const char *)text->characters + part->start * text->kind, size);
    insert(table, part->hash, entry);
    return true;
}

void table_close(Table *table)
{
    for (size_t at = 0; table->slots && at < table->size; at++)
        if (table->slots[at].entry)
            free_entry(table->slots[at].entry);
    PyMem_Free(table->slots);
}
