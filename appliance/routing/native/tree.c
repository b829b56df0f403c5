/* The blocks of all holders: finding, storing and removing them, one at a time. */

#include "tree.h"

enum { NODES_PER_CHUNK = 1 << CHUNK_BITS };

static Key place_of(const Node *node)
{
    return (Key){node->local, node->parent};
}

bool tree_open(Tree *tree)
{
    *tree = (Tree){.places = {.keyed = BY_PLACE, .tree = tree}, .end = 1};
    tree->chunks = PyMem_Calloc(1, sizeof *tree->chunks);
    if (!tree->chunks)
        return false;
    tree->chunks[0] = PyMem_Calloc(NODES_PER_CHUNK, sizeof(Node));
    tree->chunk_count = tree->chunks[0] != NULL;
    return tree->chunk_count;
}

void tree_close(Tree *tree)
{
    for (uint32_t node = 1; node < tree->end; node++)
        if (tree_node(tree, node)->holders)
            holders_free(tree_node(tree, node)->holders);
    for (uint32_t chunk = 0; chunk < tree->chunk_count; chunk++)
        PyMem_Free(tree->chunks[chunk]);
    PyMem_Free(tree->chunks);
    for (uint32_t holder = 0; holder < tree->holder_count; holder++) {
        table_free(&tree->caches[holder].ids);
        table_free(&tree->caches[holder].names);
    }
    PyMem_Free(tree->caches);
    table_free(&tree->places);
    *tree = (Tree){0};
}

bool tree_add_holder(Tree *tree, uint32_t *holder)
{
    uint32_t number = 0;
    while (number < tree->holder_count && tree->caches[number].taken)
        number++;
    if (number == MAX_HOLDERS)
        return false;
    if (number == tree->holder_count) {
        Cache *caches = PyMem_Realloc(tree->caches, (number + 1) * sizeof *caches);
        if (!caches)
            return false;
        tree->caches = caches;
        tree->holder_count++;
    }
    tree->caches[number] = (Cache){.ids = {.keyed = BY_ID}, .names = {.keyed = BY_NODE}, .taken = true};
    *holder = number;
    return true;
}

/* A node's number, or ROOT without memory. Numbers that lately became free come first: a chain gets neighbours. */
static uint32_t new_node(Tree *tree)
{
    uint32_t node = tree->free;
    if (node) {
        tree->free = tree_node(tree, node)->parent;
        return node;
    }
    if (tree->end == UINT32_MAX)
        return ROOT;
    if (tree->end >> CHUNK_BITS == tree->chunk_count) {
        Node **chunks = PyMem_Realloc(tree->chunks, (tree->chunk_count + 1) * sizeof *chunks);
        if (!chunks)
            return ROOT;
        tree->chunks = chunks;
        chunks[tree->chunk_count] = PyMem_Calloc(NODES_PER_CHUNK, sizeof(Node));
        if (!chunks[tree->chunk_count])
            return ROOT;
        tree->chunk_count++;
    }
    return tree->end++;
}

static uint32_t add_child(Tree *tree, uint32_t parent, uint64_t local)
{
    Key place = {local, parent};
    uint32_t node = table_make_room(&tree->places, place) ? new_node(tree) : ROOT;
    if (!node)
        return ROOT;
    *tree_node(tree, node) = (Node){.local = local, .holders = NO_HOLDERS, .parent = parent};
    table_put(&tree->places, place, node, 0);
    tree_node(tree, parent)->children++;
    tree->live++;
    return node;
}

/* Drop a block that nobody has and nothing follows, and those before it of which that then is true. */
static void trim(Tree *tree, uint32_t number)
{
    while (number != ROOT) {
        Node *node = tree_node(tree, number);
        if (node->children || node->holders != NO_HOLDERS)
            return;
        table_drop(&tree->places, place_of(node));
        uint32_t parent = node->parent;
        *node = (Node){.parent = tree->free};
        tree->free = number;
        tree->live--;
        tree_node(tree, parent)->children--;
        number = parent;
    }
}

uint32_t tree_child(const Tree *tree, uint32_t parent, uint64_t local)
{
    if (!tree_node(tree, parent)->children)
        return ROOT;
    uint32_t child = parent + 1; /* most often: blocks of a prompt get their numbers one after the other */
    if (child < tree->end) {
        const Node *next = tree_node(tree, child);
        if (next->holders && next->parent == parent && next->local == local)
            return child;
    }
    return table_find(&tree->places, (Key){local, parent}, &child, NULL) ? child : ROOT;
}

uint32_t tree_locate(const Tree *tree, uint32_t holder, uint64_t id)
{
    uint32_t node;
    return table_find(&tree->caches[holder].ids, (Key){id, 0}, &node, NULL) ? node : ROOT;
}

static void count(Tree *tree, Cache *cache, unsigned tiers, int sign)
{
    for (int tier = 0; tier < TIERS; tier++)
        if (tiers >> tier & 1) {
            cache->blocks[tier] += (uint64_t)sign;
            tree->blocks[tier] += (uint64_t)sign;
        }
}

static void drop_name(Cache *cache, uint64_t id, uint32_t node)
{
    table_drop(&cache->ids, (Key){id, 0});
    table_drop(&cache->names, (Key){0, node});
}

static void lose(Tree *tree, uint32_t holder, uint64_t id, uint32_t number)
{
    Node *node = tree_node(tree, number);
    count(tree, &tree->caches[holder], holders_get(node->holders, holder), -1);
    (void)holders_put(&node->holders, holder, 0, tree->holder_count);
    drop_name(&tree->caches[holder], id, number);
    trim(tree, number);
}

/* Make the table from blocks to ids. Only a holder that names a block twice needs it, and few do. */
static bool keep_names(Cache *cache)
{
    Table names = {.keyed = BY_NODE};
    const Table *ids = &cache->ids;
    for (size_t number = 0; ids->used && number < (size_t)1 << ids->shard_bits; number++) {
        const Shard *shard = &ids->shards[number];
        for (uint32_t at = 0; at < shard->size; at++) {
            Key key = {0, shard->nodes[at]};
            if (!key.number)
                continue;
            if (!table_make_room(&names, key)) {
                table_free(&names);
                return false;
            }
            table_put(&names, key, key.number, shard->ids[at]);
        }
    }
    cache->names = names;
    cache->renames = true;
    return true;
}

/* All that may need memory when a holder's block gets an id. */
static bool prepare(Cache *cache, uint64_t id, uint32_t node, bool second_id)
{
    if (second_id && !cache->renames && !keep_names(cache))
        return false;
    return table_make_room(&cache->ids, (Key){id, 0}) &&
           (!cache->renames || table_make_room(&cache->names, (Key){0, node}));
}

bool tree_store(Tree *tree, uint32_t holder, uint32_t parent, uint64_t id, uint64_t local, int tier, uint32_t *result)
{
    Cache *cache = &tree->caches[holder];
    uint32_t number = tree_child(tree, parent, local);
    if (!number && !(number = add_child(tree, parent, local)))
        return false;
    Node *node = tree_node(tree, number);
    unsigned had = holders_get(node->holders, holder);
    uint32_t named = tree_locate(tree, holder, id);
    bool new_id = named != number;
    if ((new_id && !prepare(cache, id, number, had != 0)) ||
        !holders_put(&node->holders, holder, had | 1u << tier, tree->holder_count)) {
        trim(tree, number);
        return false;
    }
    count(tree, cache, ~had & 1u << tier, 1);
    if (new_id) {
        uint64_t old_id;
        if (had && table_find(&cache->names, (Key){0, number}, NULL, &old_id))
            drop_name(cache, old_id, number);
        if (named)
            lose(tree, holder, id, named);
        table_put(&cache->ids, (Key){id, 0}, number, id);
        if (cache->renames)
            table_put(&cache->names, (Key){0, number}, number, id);
    }
    *result = number;
    return true;
}

bool tree_remove(Tree *tree, uint32_t holder, uint64_t id, int tier)
{
    uint32_t number = tree_locate(tree, holder, id);
    if (!number)
        return false;
    Node *node = tree_node(tree, number);
    unsigned had = holders_get(node->holders, holder), bit = 1u << tier;
    if (!(had & bit))
        return false;
    if (had == bit) {
        lose(tree, holder, id, number);
        return true;
    }
    (void)holders_put(&node->holders, holder, had & ~bit, tree->holder_count);
    count(tree, &tree->caches[holder], bit, -1);
    return true;
}

void tree_forget_holder(Tree *tree, uint32_t holder)
{
    Cache *cache = &tree->caches[holder];
    for (size_t number = 0; cache->ids.used && number < (size_t)1 << cache->ids.shard_bits; number++) {
        const Shard *shard = &cache->ids.shards[number];
        for (uint32_t at = 0; at < shard->size; at++)
            if (shard->nodes[at]) {
                Node *node = tree_node(tree, shard->nodes[at]);
                count(tree, cache, holders_get(node->holders, holder), -1);
                (void)holders_put(&node->holders, holder, 0, tree->holder_count);
                trim(tree, shard->nodes[at]);
            }
    }
    table_free(&cache->ids);
    table_free(&cache->names);
    *cache = (Cache){0};
}
