/* Between Python objects and the index: arguments become plain numbers before anything is looked at or changed, and
 * results become objects after. In between no Python code can run. */

#ifndef APPLIANCE_ROUTING_OBJECTS_H
#define APPLIANCE_ROUTING_OBJECTS_H

#include "tree.h"

enum { FEW = 64 };

typedef struct {
    uint64_t *values;
    size_t count;
    uint64_t few[FEW]; /* most events have few blocks */
} Words;

/* arguments.c: these give -1 with a Python error. */

int read_word(PyObject *object, uint64_t *word);    /* OverflowError, TypeError */
int read_words(PyObject *object, Words *words);     /* the same; to be freed unless it fails */
int read_block_words(PyObject *object, Words *words); /* ValueError instead, which says that it is about an event */
void free_words(Words *words);
int read_tier(PyObject *object); /* IndexError, TypeError */

/* answers.c: new objects, or NULL with a Python error. */

/* For each tier a dict from holders to their blocks, of the rows that `tree_match` filled. */
PyObject *answer_scores(PyObject *names, const uint32_t *depths, uint32_t holder_count);

/* A list of blocks that follow each other in the same tiers: (ids, local hashes, the id before them, tiers). */
PyObject *answer_picture(const Pictured *blocks, size_t count);

#endif
