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
    size_t used;
    int bits;      /* there are 1 << bits slots, once there are any */
    uint64_t seed; /* where hashes begin */
} Table;

const Entry *table_find(const Table *table, const Text *text, const Part *part);
/* Keep the ids of a part of an own text that is not known yet; false without memory. A part whose slots are crowded is
 * not kept: nobody can make look-ups slow with words that collide. */
bool table_add(Table *table, const Text *text, const Part *part, PyObject *const *ids, uint32_t count);
void table_free(Table *table);

/* answer.c: what is known of a text. These give -1 with an error. */

enum { FEW = 1024 };

typedef struct {
    PyObject **ids; /* with a reference each */
    size_t count, room;
    PyObject *pieces;       /* once a word is missing: ids before it, it, and so on */
    PyObject *first, *last; /* ends that are missing */
    PyObject *few[FEW];     /* most prompts are short */
} Answer;

void answer_open(Answer *answer);
int answer_add_ids(Answer *answer, const Entry *entry);
int answer_add_missing(Answer *answer, PyObject *word); /* takes the word over, which may be NULL with an error */
PyObject *answer_object(Answer *answer);
void answer_close(Answer *answer);

#endif
