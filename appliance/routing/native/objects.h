/* Between Python objects and plain data, which are the index and the hashes: arguments become plain numbers before
 * anything is looked at or changed, and results become objects after. In between no Python code can run. */

#ifndef APPLIANCE_ROUTING_OBJECTS_H
#define APPLIANCE_ROUTING_OBJECTS_H

#include "tree.h"

enum { FEW = 64 };

typedef struct {
    uint64_t *values;
    size_t count;
    uint64_t few[FEW]; /* most events have few blocks */
} Words;

/* The common case of `read_word` without a call: whether it is an int of a usual size, and which one. */
static inline bool plain_word(PyObject *object, uint64_t *word)
{
    if (__builtin_expect(!PyLong_CheckExact(object), 0))
        return false;
#if PY_VERSION_HEX < 0x030C0000 && PYLONG_BITS_IN_DIGIT == 30
    const uint32_t *digits = ((PyLongObject *)object)->ob_digit;
    Py_ssize_t size = Py_SIZE(object); /* most tokens have one digit, most hashes three */
    if (__builtin_expect(size == 1, 1))
        *word = digits[0];
    else if (size == 3 && digits[2] < 16)
        *word = digits[0] | (uint64_t)digits[1] << 30 | (uint64_t)digits[2] << 60;
    else if (size == 2)
        *word = digits[0] | (uint64_t)digits[1] << 30;
    else if (size == 0)
        *word = 0;
    else
        return false;
    return true;
#else
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    *word = (uint64_t)value;
    return value >= 0 && !overflow;
#endif
}

/* arguments.c: these give -1 with a Python error. */

int check_count(Py_ssize_t given, Py_ssize_t wanted, const char *name); /* TypeError */
int read_word(PyObject *object, uint64_t *word);                        /* OverflowError, TypeError */
int read_words(PyObject *object, Words *words);       /* the same; to be freed unless it fails */
int read_block_words(PyObject *object, Words *words); /* ValueError instead, which says that it is about an event */
void free_words(Words *words);
int read_tier(PyObject *object); /* IndexError, TypeError */

/* answers.c: new objects, or NULL with a Python error. */

/* For each tier a dict from holders to their blocks, of the rows that `tree_match` filled. */
PyObject *answer_scores(PyObject *names, const uint32_t *depths, uint32_t holder_count);

/* A list of blocks that follow each other in the same tiers: (ids, local hashes, the id before them, tiers). */
PyObject *answer_picture(const Pictured *blocks, size_t count);

/* hashing.c: the module's functions. */

PyObject *hash_blocks(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *chain_hashes(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
