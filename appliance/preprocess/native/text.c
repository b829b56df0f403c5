/* Where texts may be cut, and hashes of what lies between, which are taken of eight characters at a time. */

#include <string.h>

#include "words.h"

enum { BLOCK = 8 };

#define FACTOR UINT64_C(0x9E3779B97F4A7C15) /* 2^64 by the golden ratio: the upper bits depend on all characters */
#define EACH_BYTE UINT64_C(0x0101010101010101)

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

static inline uint64_t mix(uint64_t hash, uint64_t block)
{
    return (hash ^ block) * FACTOR;
}

/* Go on with the hash of a part whose blocks up to `at` are in it. */
static uint64_t hash_rest(const Text *text, Py_ssize_t at, Py_ssize_t end, uint64_t hash)
{
    while (at < end) {
        uint64_t bytes = 0, wide = 0;
        for (int shift = 0; shift < 8 * BLOCK && at < end; shift += 8, at++) {
            Py_UCS4 character = PyUnicode_READ(text->kind, text->characters, at);
            bytes |= (uint64_t)(character & 0xff) << shift;
            wide = wide * FACTOR + (character >> 8);
        }
        hash = mix(hash, bytes);
        if (wide)
            hash = mix(hash, wide);
    }
    return hash;
}

Part make_part(const Text *text, Py_ssize_t start, Py_ssize_t end, uint64_t seed)
{
    return (Part){.start = start, .end = end, .hash = hash_rest(text, start, end, seed)};
}

/* No white space under any definition of it. */
static inline bool ends_clean(Py_UCS4 character)
{
    return character < 0x80 ? character > ' ' && character < 0x7f : Py_UNICODE_ISALNUM(character);
}

/* Go on with a part up to `at`, by single characters. */
static Py_NO_INLINE Part cut_rest(const Text *text, Py_ssize_t start, Py_ssize_t at, uint64_t hash)
{
    Py_ssize_t end = at;
    for (; end < text->length; end++)
        if (PyUnicode_READ(text->kind, text->characters, end) == ' ' && end > start &&
            ends_clean(PyUnicode_READ(text->kind, text->characters, end - 1)))
            break;
    return (Part){.start = start, .end = end, .hash = hash_rest(text, at, end, hash)};
}

/* The upper bit of each byte that is a space. */
static inline uint64_t find_spaces(uint64_t block)
{
    uint64_t others = block ^ ' ' * EACH_BYTE;
    return ~(((others & 0x7f * EACH_BYTE) + 0x7f * EACH_BYTE) | others | 0x7f * EACH_BYTE);
}

Part cut_part(const Text *text, Py_ssize_t start, uint64_t seed)
{
    uint64_t hash = seed, block;
    Py_ssize_t at = start;
    const unsigned char *characters = text->characters;
    /* Nearly all texts have one byte for each character; these blocks are found and hashed at once. */
    bool blocks = PY_LITTLE_ENDIAN && text->kind == PyUnicode_1BYTE_KIND;
    for (; blocks && text->length - at >= BLOCK; at += BLOCK) {
        memcpy(&block, characters + at, BLOCK);
        for (uint64_t spaces = find_spaces(block); spaces; spaces &= spaces - 1) {
            int count = __builtin_ctzll(spaces) / 8;
            Py_ssize_t end = at + count;
            if (end == start || !ends_clean(characters[end - 1]))
                continue;
            if (count)
                hash = mix(hash, block & (UINT64_MAX >> (64 - 8 * count)));
            return (Part){.start = start, .end = end, .hash = hash};
        }
        hash = mix(hash, block);
    }
    return cut_rest(text, start, at, hash);
}
