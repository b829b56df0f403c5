/* Open addressing with linear probing, in shards, so that growing one takes well below a millisecond. */

#include "tree.h"

enum { FIRST_SLOTS = 8, MANY = 1 << 13, MANY_BITS = 8 };

static uint64_t mix(Key key)
{
    uint64_t hash = key.word + key.number * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return hash ^ hash >> 32;
}

/* The upper bits choose the shard, others the slot; any size will do, so that shards need not double. */
static uint32_t home_of(const Shard *shard, uint64_t hash)
{
    return (uint32_t)((uint64_t)(uint32_t)hash * shard->size >> 32);
}

static Shard *shard_of(const Table *table, uint64_t hash)
{
    return &table->shards[table->shard_bits ? hash >> (64 - table->shard_bits) : 0];
}

static Key key_at(const Table *table, const Shard *shard, uint32_t at)
{
    if (table->keyed == BY_ID)
        return (Key){shard->ids[at], 0};
    if (table->keyed == BY_NODE)
        return (Key){0, shard->nodes[at]};
    const Node *node = tree_node(table->tree, shard->nodes[at]);
    return (Key){node->local, node->parent};
}

static bool probe(const Table *table, const Shard *shard, uint64_t hash, Key key, uint32_t *at)
{
    if (!shard->used)
        return false;
    for (uint32_t slot = home_of(shard, hash); shard->nodes[slot]; slot = slot + 1 == shard->size ? 0 : slot + 1) {
        Key found = key_at(table, shard, slot);
        if (found.word == key.word && found.number == key.number) {
            *at = slot;
            return true;
        }
    }
    return false;
}

static void insert(Shard *shard, uint64_t hash, uint32_t node, uint64_t id)
{
    uint32_t at = home_of(shard, hash);
    while (shard->nodes[at])
        at = at + 1 == shard->size ? 0 : at + 1;
    shard->nodes[at] = node;
    if (shard->ids)
        shard->ids[at] = id;
    shard->used++;
}

static bool resize(const Table *table, Shard *shard, uint32_t size)
{
    Shard fresh = {.size = size};
    fresh.nodes = PyMem_Calloc(size, sizeof *fresh.nodes);
    if (table->keyed != BY_PLACE)
        fresh.ids = PyMem_Malloc(size * sizeof *fresh.ids);
    if (!fresh.nodes || (table->keyed != BY_PLACE && !fresh.ids)) {
        PyMem_Free(fresh.nodes);
        PyMem_Free(fresh.ids);
        return false;
    }
    for (uint32_t at = 0; at < shard->size; at++)
        if (shard->nodes[at])
            insert(&fresh, mix(key_at(table, shard, at)), shard->nodes[at], shard->ids ? shard->ids[at] : 0);
    PyMem_Free(shard->nodes);
    PyMem_Free(shard->ids);
    *shard = fresh;
    return true;
}

static bool full(const Table *table, const Shard *shard)
{
    /* A probe of a place reads the node, so its slots are emptier. */
    uint64_t limit = table->keyed == BY_PLACE ? (uint64_t)shard->size * 5 / 8 : (uint64_t)shard->size * 3 / 4;
    return shard->used >= limit;
}

static bool make_room(const Table *table, Shard *shard)
{
    if (!full(table, shard))
        return true;
    if (shard->size > UINT32_MAX / 2)
        return false;
    return resize(table, shard, shard->size < FIRST_SLOTS ? FIRST_SLOTS : shard->size + shard->size / 2);
}

/* A table that has become large gets many shards. Without memory it stays as it is, which is slower to grow only. */
static void spread(Table *table)
{
    Table fresh = {.keyed = table->keyed, .tree = table->tree, .shard_bits = MANY_BITS};
    fresh.shards = PyMem_Calloc((size_t)1 << MANY_BITS, sizeof *fresh.shards);
    if (!fresh.shards)
        return;
    const Shard *old = table->shards;
    for (uint32_t at = 0; at < old->size; at++) {
        if (!old->nodes[at])
            continue;
        Key key = key_at(table, old, at);
        if (!table_make_room(&fresh, key)) {
            table_free(&fresh);
            return;
        }
        table_put(&fresh, key, old->nodes[at], old->ids ? old->ids[at] : 0);
    }
    table_free(table);
    *table = fresh;
}

bool table_find(const Table *table, Key key, uint32_t *node, uint64_t *id)
{
    if (!table->used)
        return false;
    uint64_t hash = mix(key);
    const Shard *shard = shard_of(table, hash);
    uint32_t at;
    if (!probe(table, shard, hash, key, &at))
        return false;
    if (node)
        *node = shard->nodes[at];
    if (id)
        *id = shard->ids[at];
    return true;
}

bool table_make_room(Table *table, Key key)
{
    if (!table->shards) {
        table->shards = PyMem_Calloc((size_t)1 << table->shard_bits, sizeof *table->shards);
        if (!table->shards)
            return false;
    }
    if (table->used >= MANY && !table->shard_bits && full(table, table->shards))
        spread(table);
    return make_room(table, shard_of(table, mix(key)));
}

void table_put(Table *table, Key key, uint32_t node, uint64_t id)
{
    uint64_t hash = mix(key);
    insert(shard_of(table, hash), hash, node, id);
    table->used++;
}

void table_drop(Table *table, Key key)
{
    uint64_t hash = mix(key);
    uint32_t hole;
    if (!table->used)
        return;
    Shard *shard = shard_of(table, hash);
    if (!probe(table, shard, hash, key, &hole))
        return;
    /* What stands behind the hole moves up, unless that is before the slot where a search for it begins. */
    for (uint32_t at = hole;;) {
        at = at + 1 == shard->size ? 0 : at + 1;
        if (!shard->nodes[at])
            break;
        uint32_t home = home_of(shard, mix(key_at(table, shard, at)));
        bool stays = hole < at ? home > hole && home <= at : home > hole || home <= at;
        if (stays)
            continue;
        shard->nodes[hole] = shard->nodes[at];
        if (shard->ids)
            shard->ids[hole] = shard->ids[at];
        hole = at;
    }
    shard->nodes[hole] = ROOT;
    shard->used--;
    table->used--;
    if (shard->size > 4 * FIRST_SLOTS && shard->used < shard->size / 8)
        (void)resize(table, shard, shard->size / 4); /* without memory it stays large */
}

void table_free(Table *table)
{
    if (table->shards)
        for (size_t shard = 0; shard < (size_t)1 << table->shard_bits; shard++) {
            PyMem_Free(table->shards[shard].nodes);
            PyMem_Free(table->shards[shard].ids);
        }
    PyMem_Free(table->shards);
    table->shards = NULL;
    table->shard_bits = 0;
    table->used = 0;
}
