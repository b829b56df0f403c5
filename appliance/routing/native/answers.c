/* What the index answers becomes Python objects. */

#include <string.h>

#include "objects.h"

enum { LONGEST_STRETCH = 128 }; /* so that events that say it can be sent in pieces */

/* The holders that have any blocks, with how many. */
static PyObject *scores(PyObject *names, const uint32_t *depths, uint32_t holder_count)
{
    PyObject *result = PyDict_New(), *value = NULL;
    uint32_t last = 0;
    for (uint32_t number = 0; result && number < holder_count; number++) {
        if (!depths[number] || (Py_ssize_t)number >= PyList_GET_SIZE(names))
            continue;
        if (depths[number] != last) {
            Py_XDECREF(value);
            value = PyLong_FromUnsignedLong(last = depths[number]);
        }
        PyObject *holder = Py_NewRef(PyList_GET_ITEM(names, (Py_ssize_t)number));
        if (!value || PyDict_SetItem(result, holder, value))
            Py_CLEAR(result);
        Py_DECREF(holder);
    }
    Py_XDECREF(value);
    return result;
}

PyObject *answer_scores(PyObject *names, const uint32_t *depths, uint32_t holder_count)
{
    PyObject *tiers[TIERS] = {NULL};
    for (int tier = 0; tier < TIERS; tier++) {
        const uint32_t *row = depths + (size_t)tier * holder_count;
        bool same = tier && !memcmp(row, row - holder_count, holder_count * sizeof *row);
        tiers[tier] = same ? Py_NewRef(tiers[tier - 1]) : scores(names, row, holder_count);
        if (!tiers[tier]) {
            for (int made = 0; made < tier; made++)
                Py_DECREF(tiers[made]);
            return NULL;
        }
    }
    return Py_BuildValue("(NNN)", tiers[0], tiers[1], tiers[2]);
}

/* Some blocks that follow each other, all in the same tiers: ids, local hashes, the id before them, tiers. */
static PyObject *stretch(const Pictured *blocks, size_t count)
{
    PyObject *ids = PyList_New((Py_ssize_t)count), *locals = PyList_New((Py_ssize_t)count);
    PyObject *parent = blocks->first ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(blocks->parent_id);
    for (size_t at = 0; ids && locals && parent && at < count; at++) {
        PyObject *id = PyLong_FromUnsignedLongLong(blocks[at].id);
        PyObject *local = PyLong_FromUnsignedLongLong(blocks[at].local);
        if (!id || !local)
            Py_CLEAR(parent);
        PyList_SET_ITEM(ids, (Py_ssize_t)at, id);
        PyList_SET_ITEM(locals, (Py_ssize_t)at, local);
    }
    if (ids && locals && parent)
        return Py_BuildValue("(NNNi)", ids, locals, parent, blocks->tiers);
    Py_XDECREF(ids);
    Py_XDECREF(locals);
    Py_XDECREF(parent);
    return NULL;
}

PyObject *answer_picture(const Pictured *blocks, size_t count)
{
    PyObject *result = PyList_New(0);
    for (size_t at = 0, end; result && at < count; at = end) {
        for (end = at + 1; end < count && end - at < LONGEST_STRETCH; end++)
            if (!blocks[end].follows || blocks[end].tiers != blocks[at].tiers)
                break;
        PyObject *item = stretch(&blocks[at], end - at);
        if (!item || PyList_Append(result, item))
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    return result;
}
