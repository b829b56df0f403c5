/* The prefix index in C. A block is a node below the block before it; node 0 stands for the start of all prompts.
 *
 * Plain data: of Python these files use its allocator only, so that tracemalloc sees what the index takes. Everything
 * runs under the GIL. Functions that need memory and do not get it return false (or NULL) and have changed nothing. */

#ifndef APPLIANCE_ROUTING_TREE_H
#define APPLIANCE_ROUTING_TREE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

enum { ROOT = 0, TIERS = 3, MAX_HOLDERS = 1 << 18 };

typedef struct Tree Tree;

/* table.c: hash tables of nodes, found by a word and a number. */

typedef enum {
    BY_ID,    /* the word is the holder's id of the block */
    BY_NODE,  /* the number is the node; tells its id */
    BY_PLACE, /* the word is the block's local hash, the number the node before it */
} Keyed;

typedef struct {
    uint64_t word;
    uint32_t number;
} Key;

typedef struct {
    uint64_t *ids;   /* not with BY_PLACE, whose keys stand in the nodes */
    uint32_t *nodes; /* ROOT where a slot is empty */
    uint32_t size, used;
} Shard;

typedef struct {
    Keyed keyed;
    const Tree *tree;
    Shard *shards;
    uint32_t shard_bits;
    size_t used;
} Table;

bool table_find(const Table *table, Key key, uint32_t *node, uint64_t *id);
bool table_make_room(Table *table, Key key);
void table_put(Table *table, Key key, uint32_t node, uint64_t id); /* there is room, and the key is new */
void table_drop(Table *table, Key key);
void table_free(Table *table);

/* holders.c: who has a block, in which tiers. A tier's bit in a mask of tiers is 1 << tier. */

typedef uint64_t Holders;

#define NO_HOLDERS ((Holders)1)

unsigned holders_get(Holders holders, uint32_t holder);
/* Make these the tiers of a holder; taking away never fails. */
bool holders_put(Holders *holders, uint32_t holder, unsigned tiers, uint32_t holder_count);
bool holders_any(Holders holders, int tier);
/* Take from `alive` those that do not have the block in a tier, and put them into `gone`; whether there are any. */
bool holders_keep(Holders holders, int tier, uint64_t *alive, uint64_t *gone, uint32_t words);
void holders_free(Holders holders);

/* tree.c: the blocks, and what holders call them. */

typedef struct {
    uint64_t local; /* hash of the block's tokens */
    Holders holders;
    uint32_t parent;
    uint32_t children;
} Node;

typedef struct {
    Table ids;
    Table names; /* the same by node; kept once the holder has given a block a second id */
    bool renames;
    bool taken;
    uint64_t blocks[TIERS];
} Cache;

struct Tree {
    Node **chunks;
    uint32_t chunk_count;
    uint32_t end;  /* above the highest number of a node */
    uint32_t free; /* the first unused node below that; the others by their parent */
    uint32_t live;
    Table places;
    Cache *caches; /* by number of the holder */
    uint32_t holder_count;
    uint64_t blocks[TIERS];
};

enum { CHUNK_BITS = 12 };

static inline Node *tree_node(const Tree *tree, uint32_t node)
{
    return &tree->chunks[node >> CHUNK_BITS][node & ((1u << CHUNK_BITS) - 1)];
}

bool tree_open(Tree *tree); /* where it fails, and where a tree is all zeros, closing it does no harm */
void tree_close(Tree *tree);
bool tree_add_holder(Tree *tree, uint32_t *holder); /* fails for more than MAX_HOLDERS, too */
void tree_forget_holder(Tree *tree, uint32_t holder);

/* These give ROOT where there is no such block. */
uint32_t tree_child(const Tree *tree, uint32_t parent, uint64_t local);
uint32_t tree_locate(const Tree *tree, uint32_t holder, uint64_t id);

/* Store one block after another, and say which node it is; the holder's other block with this id is removed. */
bool tree_store(Tree *tree, uint32_t holder, uint32_t parent, uint64_t id, uint64_t local, int tier, uint32_t *node);
bool tree_remove(Tree *tree, uint32_t holder, uint64_t id, int tier); /* false: the holder does not have it there */

/* walks.c: questions about more than one block. */

/* How many blocks from the first on somebody has in a tier, whoever it is for each of them. */
size_t tree_shared(const Tree *tree, const uint64_t *locals, size_t count, int tier);

/* For each tier and holder the blocks from the first on; `depths` has room for TIERS rows of holder_count. */
bool tree_match(const Tree *tree, const uint64_t *locals, size_t count, uint32_t *depths);

typedef struct {
    uint64_t id, local, parent_id;
    uint8_t tiers; /* 0: the holder does not have it, but what follows */
    bool first;    /* of a prompt */
    bool follows;  /* the one before it in the picture */
} Pictured;

/* What a holder has, parents before children; NULL without memory. To be freed with PyMem_Free. */
Pictured *tree_picture(const Tree *tree, uint32_t holder, size_t *count);

#endif
