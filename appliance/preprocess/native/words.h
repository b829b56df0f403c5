/* Words of prompts and their token ids, in C.
 *
 * Everything runs under the GIL. No Python code can run while a table is looked at or changed: of Python the tables use
 * its allocator and exact ints only. Functions that need memory and do not get it say so and have changed nothing. */

#ifndef APPLIANCE_PREPROCESS_WORDS_H
#define APPLIANCE_PREPROCESS_WORDS_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* text.c: the parts of a text. */

typedef struct {
    const void *characters; /* of a str that somebody holds */
    Py_ssize_t length;
    int kind; /* bytes for each character */
} Text;

typedef struct {
    Py_ssize_t start, end;
    uint64_t hash; /* of the characters; the same in texts of any kind */
} Part;

/* Parts of up to so many characters of one byte have the same hash only if the same bytes are in them. */
enum { EXACT = 8 };

/* -1 with an error when it is no str. */
int read_text(PyObject *object, Text *text);
Part make_part(const Text *text, Py_ssize_t start, Py_ssize_t end, uint64_t seed);
/* From `start` up to the next space that follows a clean end, or the end of the text. */
Part cut_part(const Text *text, Py_ssize_t start, uint64_t seed);

/* table.c: a hash table from parts to ids. */

typedef struct {
    Py_ssize_t length;
    int kind; /* the narrowest that the characters fit in */
    uint32_t count;
    PyObject *ids[]; /* exact ints; after them the characters */
} Entry;

typedef struct {
    uint64_t hash;
    Entry *entry; /* NULL where a slot is empty */
} Slot;

typedef struct {
    Slot *slots;
    size_t size, used;
    int shift;     /* of a hash to its first slot */
    uint64_t seed; /* where hashes begin */
} Table;

bool table_open(Table *table, uint64_t seed); /* where it fails, and where a table is all zeros, closing does no harm */
void table_close(Table *table);
/* Keep the ids of a part of an own text that is not known yet; false without memory. A part whose slots are crowded is
 * not kept: nobody can make look-ups slow with words that collide. */
bool table_add(Table *table, const Text *text, const Part *part, PyObject *const *ids, uint32_t count);
const Entry *table_search(const Table *table, const Text *text, const Part *part);

/* The ids of a part, or NULL; at once when it is short and lies in its first slot. */
static inline const Entry *table_find(const Table *table, const Text *text, const Part *part)
{
    const Slot *slot = &table->slots[part->hash >> table->shift];
    if (slot->hash == part->hash && slot->entry && slot->entry->length <= EXACT &&
        slot->entry->length == part->end - part->start && (slot->entry->kind | text->kind) == PyUnicode_1BYTE_KIND)
        return slot->entry;
    return table_search(table, text, part);
}

/* answer.c: what is known of a text. Without memory these give -1 with an error. */

enum { FEW = 1024 };

typedef struct {
    PyObject **ids; /* with a reference each */
    size_t count, room;
    PyObject *pieces;       /* once a word is missing: ids before it, it, and so on */
    PyObject *first, *last; /* ends that are missing */
    PyObject *few[FEW];     /* most prompts are short */
} Answer;

void answer_open(Answer *answer);
int answer_make_room(Answer *answer, size_t more);
int answer_add_missing(Answer *answer, PyObject *word); /* takes the word over, which may be NULL with an error */
PyObject *answer_object(Answer *answer);
void answer_close(Answer *answer);

static inline int answer_add_ids(Answer *answer, const Entry *entry)
{
    if (answer->room - answer->count < entry->count && answer_make_room(answer, entry->count))
        return -1;
    PyObject **end = answer->ids + answer->count;
    for (uint32_t at = 0; at < entry->count; at++)
        end[at] = Py_NewRef(entry->ids[at]);
    answer->count += entry->count;
    return 0;
}

#endif
