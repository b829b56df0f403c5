/* Python objects become plain numbers. */

#include "objects.h"

void free_words(Words *words)
{
    if (words->values != words->few)
        PyMem_Free(words->values);
}

int check_count(Py_ssize_t given, Py_ssize_t wanted, const char *name)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
    return -1;
}

/* Its own `__index__` may take it out of the sequence that it was in. */
static int read_odd_word(PyObject *object, uint64_t *word)
{
    Py_INCREF(object);
    PyObject *number = PyNumber_Index(object);
    Py_DECREF(object);
    if (!number)
        return -1;
    *word = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    return *word == UINT64_MAX && PyErr_Occurred() ? -1 : 0;
}

int read_word(PyObject *object, uint64_t *word)
{
    return plain_word(object, word) ? 0 : read_odd_word(object, word);
}

int read_words(PyObject *object, Words *words)
{
    PyObject *sequence = PySequence_Fast(object, "needs a sequence of numbers");
    if (!sequence)
        return -1;
    size_t count = (size_t)PySequence_Fast_GET_SIZE(sequence), at = 0;
    words->values = count <= FEW ? words->few : PyMem_New(uint64_t, count);
    if (!words->values)
        PyErr_NoMemory();
    /* `__index__` of something odd may change the sequence. */
    for (; words->values && at < count && at < (size_t)PySequence_Fast_GET_SIZE(sequence); at++) {
        PyObject *item = PySequence_Fast_GET_ITEM(sequence, (Py_ssize_t)at);
        if (!plain_word(item, &words->values[at]) && read_odd_word(item, &words->values[at])) {
            free_words(words);
            words->values = NULL;
        }
    }
    words->count = at;
    Py_DECREF(sequence);
    return words->values ? 0 : -1;
}

int read_tier(PyObject *object)
{
    long tier = PyLong_AsLong(object);
    if (tier == -1 && PyErr_Occurred())
        return -1;
    if (tier >= 0 && tier < TIERS)
        return (int)tier;
    PyErr_SetString(PyExc_IndexError, "no such tier");
    return -1;
}

int read_block_words(PyObject *object, Words *words)
{
    if (!read_words(object, words))
        return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_SetString(PyExc_ValueError, "cannot store a block hash that is no unsigned 64-bit number");
    return -1;
}
