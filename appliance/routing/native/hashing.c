/* The module's functions: hashes of the blocks of a prompt. What they are is said in `block_hash.py`. */

#include "objects.h"
#include "xxh3.h"

/* The usual case: small numbers. Says how many of them there are before the first other thing. */
static size_t read_plain_tokens(PyObject *const *items, size_t count, uint32_t *tokens)
{
    uint64_t word;
    size_t at = 0;
    for (; at < count && plain_word(items[at], &word) && word <= UINT32_MAX; at++)
        tokens[at] = (uint32_t)word;
    return at;
}

static int read_token(PyObject *object, uint32_t *token)
{
    uint64_t word;
    if (read_word(object, &word))
        return -1;
    *token = (uint32_t)word;
    if (word <= UINT32_MAX)
        return 0;
    PyErr_SetString(PyExc_OverflowError, "no unsigned 32-bit number");
    return -1;
}

/* The others, of a copy, because `__index__` of something odd may change the sequence. */
static int read_odd_tokens(PyObject *sequence, size_t start, size_t end, uint32_t *tokens)
{
    PyObject *items = PySequence_GetSlice(sequence, (Py_ssize_t)start, (Py_ssize_t)end);
    Py_ssize_t at = 0;
    while (items && start < end && !read_token(PySequence_Fast_GET_ITEM(items, at), &tokens[start])) {
        start++;
        at++;
    }
    Py_XDECREF(items);
    return start == end ? 0 : -1;
}

/* Tokens in the byte order that is hashed; to be freed with PyMem_Free. NULL with OverflowError or TypeError. */
static uint32_t *read_tokens(PyObject *object, size_t *count)
{
    PyObject *sequence = PySequence_Fast(object, "needs a sequence of token ids");
    if (!sequence)
        return NULL;
    *count = (size_t)PySequence_Fast_GET_SIZE(sequence);
    uint32_t *tokens = PyMem_New(uint32_t, *count);
    if (!tokens)
        PyErr_NoMemory();
    size_t plain = tokens ? read_plain_tokens(PySequence_Fast_ITEMS(sequence), *count, tokens) : *count;
    if (plain < *count && read_odd_tokens(sequence, plain, *count, tokens)) {
        PyMem_Free(tokens);
        tokens = NULL;
    }
    Py_DECREF(sequence);
    for (size_t at = 0; __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ && tokens && at < *count; at++)
        tokens[at] = __builtin_bswap32(tokens[at]);
    return tokens;
}

static bool put(PyObject *list, size_t at, uint64_t word)
{
    PyObject *item = PyLong_FromUnsignedLongLong(word);
    if (item)
        PyList_SET_ITEM(list, (Py_ssize_t)at, item);
    return item != NULL;
}

/* `width`: tokens that the hash of a block covers. */
static PyObject *hash_tokens(const uint32_t *tokens, size_t blocks, size_t size, size_t width, uint64_t seed)
{
    Xxh3 xxh3;
    xxh3_open(&xxh3, seed);
    PyObject *hashes = PyList_New((Py_ssize_t)blocks);
    for (size_t block = 0; hashes && block < blocks; block++)
        if (!put(hashes, block, xxh3_hash(&xxh3, tokens + block * size, width * sizeof *tokens)))
            Py_CLEAR(hashes);
    return hashes;
}

PyObject *hash_blocks(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (check_count(count, 4, "hash_blocks"))
        return NULL;
    Py_ssize_t size = PyNumber_AsSsize_t(args[1], NULL); /* what is too large for it is longer than any prompt, too */
    int further = PyObject_IsTrue(args[2]);
    uint64_t seed;
    if ((size == -1 && PyErr_Occurred()) || further < 0 || read_word(args[3], &seed))
        return NULL;
    if (size < 1)
        return PyErr_Format(PyExc_ValueError, "cannot hash blocks of %zd tokens", size);
    size_t length, reach = (size_t)further;
    uint32_t *tokens = read_tokens(args[0], &length);
    if (!tokens)
        return NULL;
    size_t blocks = length > reach ? (length - reach) / (size_t)size : 0;
    PyObject *hashes = hash_tokens(tokens, blocks, (size_t)size, (size_t)size + reach, seed);
    PyMem_Free(tokens);
    return hashes;
}

PyObject *chain_hashes(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    uint64_t seed, before = 0;
    Words locals;
    if (check_count(count, 3, "chain_hashes"))
        return NULL;
    bool first = args[1] == Py_None;
    if ((!first && read_word(args[1], &before)) || read_word(args[2], &seed) || read_words(args[0], &locals))
        return NULL;
    PyObject *hashes = PyList_New((Py_ssize_t)locals.count);
    for (size_t at = 0; hashes && at < locals.count; at++, first = false) {
        before = first ? locals.values[at] : xxh3_hash_pair(before, locals.values[at], seed);
        if (!put(hashes, at, before))
            Py_CLEAR(hashes);
    }
    free_words(&locals);
    return hashes;
}
