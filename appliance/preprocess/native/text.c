/* Where texts may be cut, and hashes of what lies between. */

#include "words.h"

#define FACTOR UINT64_C(0x9E3779B97F4A7C15) /* 2^64 by the golden ratio: the upper bits depend on all characters */

static inline uint64_t mix(uint64_t hash, Py_UCS4 character)
{
    return (hash ^ character) * FACTOR;
}

int read_text(PyObject *object, Text *text)
{
    if (!PyUnicode_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "needs a str");
        return -1;
    }
    if (PyUnicode_READY(object))
        return -1;
    text->characters = PyUnicode_DATA(object);
    text->length = PyUnicode_GET_LENGTH(object);
    text->kind = (int)PyUnicode_KIND(object);
    return 0;
}

Part make_part(const Text *text, Py_ssize_t start, Py_ssize_t end, uint64_t seed)
{
    uint64_t hash = seed;
    for (Py_ssize_t at = start; at < end; at++)
        hash = mix(hash, PyUnicode_READ(text->kind, text->characters, at));
    return (Part){.start = start, .end = end, .hash = hash};
}

/* No white space under any definition of it. */
static inline bool ends_clean(Py_UCS4 character)
{
    return character < 0x80 ? character > ' ' && character < 0x7f : Py_UNICODE_ISALNUM(character);
}

/* One loop for each kind, as the compiler sees it: this is where the time goes. */
static inline Py_ALWAYS_INLINE Part cut(int kind, const void *characters, Py_ssize_t start, Py_ssize_t length,
                                        uint64_t seed)
{
    uint64_t hash = seed;
    Py_ssize_t at = start;
    for (; at < length; at++) {
        Py_UCS4 character = PyUnicode_READ(kind, characters, at);
        if (character == ' ' && at > start && ends_clean(PyUnicode_READ(kind, characters, at - 1)))
            break;
        hash = mix(hash, character);
    }
    return (Part){.start = start, .end = at, .hash = hash};
}

Part cut_part(const Text *text, Py_ssize_t start, uint64_t seed)
{
    switch (text->kind) {
    case PyUnicode_1BYTE_KIND:
        return cut(PyUnicode_1BYTE_KIND, text->characters, start, text->length, seed);
    case PyUnicode_2BYTE_KIND:
        return cut(PyUnicode_2BYTE_KIND, text->characters, start, text->length, seed);
    default:
        return cut(PyUnicode_4BYTE_KIND, text->characters, start, text->length, seed);
    }
}
