/* Questions about more than one block: how much of a prompt each holder has, and all that one holder has. */

#include <stdlib.h>
#include <string.h>

#include "tree.h"

size_t tree_shared(const Tree *tree, const uint64_t *locals, size_t count, int tier)
{
    uint32_t node = ROOT;
    for (size_t at = 0; at < count; at++) {
        node = tree_child(tree, node, locals[at]);
        if (!node || !holders_any(tree_node(tree, node)->holders, tier))
            return at;
    }
    return count;
}

typedef struct {
    const uint32_t *path; /* the blocks of the prompt that anybody has */
    uint32_t length;
    uint32_t *starts;  /* for each position the first holder whose blocks end there; holder_count: none */
    uint32_t *next;    /* for each holder another one */
    uint64_t *alive, *gone;
    uint32_t words;
} Walk;

static void set_depths(const uint64_t *holders, uint32_t words, uint32_t depth, uint32_t *depths)
{
    for (uint32_t word = 0; word < words; word++)
        for (uint64_t rest = holders[word]; rest; rest &= rest - 1)
            depths[word * 64 + (uint32_t)__builtin_ctzll(rest)] = depth;
}

static bool any(const uint64_t *holders, uint32_t words)
{
    for (uint32_t word = 0; word < words; word++)
        if (holders[word])
            return true;
    return false;
}

/* Continue everybody's blocks with those of a tier: a holder joins where its blocks end and leaves at its first gap. */
static void extend(const Tree *tree, const Walk *walk, int tier, uint32_t *depths)
{
    uint32_t none = tree->holder_count, waiting = tree->holder_count;
    Holders before = 0;
    for (uint32_t at = 0; at <= walk->length; at++)
        walk->starts[at] = none;
    for (uint32_t holder = 0; holder < none; holder++) {
        walk->next[holder] = walk->starts[depths[holder]];
        walk->starts[depths[holder]] = holder;
    }
    memset(walk->alive, 0, walk->words * sizeof *walk->alive);
    for (uint32_t at = 0; at < walk->length && (waiting || any(walk->alive, walk->words)); at++) {
        Holders holders = tree_node(tree, walk->path[at])->holders;
        if (holders == before && walk->starts[at] == none)
            continue; /* the same few as of the block before, so nobody leaves */
        before = holders;
        for (uint32_t holder = walk->starts[at]; holder != none; holder = walk->next[holder], waiting--)
            walk->alive[holder / 64] |= UINT64_C(1) << holder % 64;
        if (holders_keep(holders, tier, walk->alive, walk->gone, walk->words))
            set_depths(walk->gone, walk->words, at, depths);
    }
    set_depths(walk->alive, walk->words, walk->length, depths);
}

bool tree_match(const Tree *tree, const uint64_t *locals, size_t count, uint32_t *depths)
{
    uint32_t holders = tree->holder_count, words = (holders + 63) / 64;
    memset(depths, 0, (size_t)TIERS * holders * sizeof *depths);
    uint32_t first = count && holders ? tree_child(tree, ROOT, locals[0]) : ROOT;
    if (!first)
        return true;
    if (count > tree->live)
        count = tree->live; /* no path is longer */
    uint64_t *bits = PyMem_Malloc(2 * (size_t)words * sizeof *bits);
    uint32_t *numbers = PyMem_Malloc((2 * count + 1 + holders) * sizeof *numbers);
    if (bits && numbers) {
        uint32_t length = 0;
        for (uint32_t node = first; node; node = length < count ? tree_child(tree, node, locals[length]) : ROOT)
            numbers[length++] = node;
        uint32_t *starts = numbers + count, *next = starts + count + 1;
        Walk walk = {numbers, length, starts, next, bits, bits + words, words};
        for (int tier = 0; tier < TIERS; tier++) {
            uint32_t *row = depths + (size_t)tier * holders;
            if (tier)
                memcpy(row, row - holders, holders * sizeof *row);
            if (tree->blocks[tier])
                extend(tree, &walk, tier, row);
        }
    }
    bool done = bits && numbers;
    PyMem_Free(bits);
    PyMem_Free(numbers);
    return done;
}

typedef struct {
    uint64_t id;
    uint32_t node;
} Named;

typedef struct {
    const Tree *tree;
    uint32_t holder;
    Named *held; /* all blocks of the holder, those with high numbers first */
    size_t held_count, at;
    Table gaps;     /* made-up ids of blocks that others follow */
    uint64_t spare; /* all ids below are in use */
    uint8_t *seen;  /* a bit for each node */
    uint32_t *pending;
    size_t pending_room;
    Pictured *blocks;
    size_t count, room;
    uint32_t last;
} Picture;

/* The array with room for one more; NULL without memory, and then it is as before. */
static void *with_room(void *array, size_t *room, size_t count, size_t size)
{
    if (count < *room)
        return array;
    size_t more = *room ? *room + *room / 2 : 64;
    void *fresh = more > SIZE_MAX / size ? NULL : PyMem_Realloc(array, more * size);
    if (fresh)
        *room = more;
    return fresh;
}

static int later_first(const void *one, const void *other)
{
    uint32_t a = ((const Named *)one)->node, b = ((const Named *)other)->node;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* Blocks with high numbers mostly end a prompt, so that what starts with them comes as a whole. */
static bool sort_held(Picture *picture)
{
    const Table *ids = &picture->tree->caches[picture->holder].ids;
    picture->held = PyMem_Malloc((ids->used + 1) * sizeof *picture->held);
    if (!picture->held)
        return false;
    for (size_t number = 0; ids->used && number < (size_t)1 << ids->shard_bits; number++) {
        const Shard *shard = &ids->shards[number];
        for (uint32_t at = 0; at < shard->size; at++)
            if (shard->nodes[at])
                picture->held[picture->held_count++] = (Named){shard->ids[at], shard->nodes[at]};
    }
    qsort(picture->held, picture->held_count, sizeof *picture->held, later_first);
    return true;
}

/* The id of a block: the holder's own, or for one that it does not have any id that it does not use. */
static bool name(Picture *picture, uint32_t node, uint64_t *id)
{
    if (picture->at && picture->held[picture->at - 1].node == node) { /* mostly: it follows the one before */
        *id = picture->held[--picture->at].id;
        return true;
    }
    Named wanted = {0, node};
    Named *found = bsearch(&wanted, picture->held, picture->held_count, sizeof wanted, later_first);
    if (found) {
        picture->at = (size_t)(found - picture->held);
        *id = found->id;
        return true;
    }
    Key key = {0, node};
    if (table_find(&picture->gaps, key, NULL, id))
        return true;
    while (tree_locate(picture->tree, picture->holder, picture->spare))
        picture->spare++;
    if (!table_make_room(&picture->gaps, key))
        return false;
    *id = picture->spare++;
    table_put(&picture->gaps, key, node, *id);
    return true;
}

static bool add(Picture *picture, uint32_t number)
{
    const Node *node = tree_node(picture->tree, number);
    Pictured *blocks = with_room(picture->blocks, &picture->room, picture->count, sizeof *blocks);
    if (!blocks)
        return false;
    picture->blocks = blocks;
    Pictured block = {.local = node->local, .first = node->parent == ROOT};
    block.follows = !block.first && node->parent == picture->last;
    block.tiers = (uint8_t)holders_get(node->holders, picture->holder);
    if (block.follows)
        block.parent_id = blocks[picture->count - 1].id;
    else if (!block.first && !name(picture, node->parent, &block.parent_id))
        return false;
    if (!name(picture, number, &block.id))
        return false;
    blocks[picture->count++] = block;
    picture->last = number;
    return true;
}

/* Add a block, after all before it that are not in the picture yet. */
static bool add_path(Picture *picture, uint32_t node)
{
    size_t count = 0;
    for (; node != ROOT && !(picture->seen[node / 8] >> node % 8 & 1); node = tree_node(picture->tree, node)->parent) {
        uint32_t *pending = with_room(picture->pending, &picture->pending_room, count, sizeof node);
        if (!pending)
            return false;
        picture->pending = pending;
        pending[count++] = node;
        picture->seen[node / 8] |= (uint8_t)(1 << node % 8);
    }
    while (count)
        if (!add(picture, picture->pending[--count]))
            return false;
    return true;
}

Pictured *tree_picture(const Tree *tree, uint32_t holder, size_t *count)
{
    Picture picture = {.tree = tree, .holder = holder, .gaps = {.keyed = BY_NODE}};
    picture.seen = PyMem_Calloc(tree->end / 8 + 1, 1);
    picture.blocks = with_room(NULL, &picture.room, 0, sizeof *picture.blocks); /* not NULL for a holder of nothing */
    bool done = picture.seen && picture.blocks && sort_held(&picture);
    for (size_t at = 0; done && at < picture.held_count; at++)
        done = add_path(&picture, picture.held[at].node);
    PyMem_Free(picture.held);
    PyMem_Free(picture.seen);
    PyMem_Free(picture.pending);
    table_free(&picture.gaps);
    if (!done) {
        PyMem_Free(picture.blocks);
        return NULL;
    }
    *count = picture.count;
    return picture.blocks;
}
