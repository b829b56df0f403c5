/* What is known of a text becomes Python objects. Making them may run any Python code, also code that changes the
 * table, so what is gathered has references of its own. */

#include <string.h>

#include "words.h"

void answer_open(Answer *answer)
{
    answer->ids = answer->few;
    answer->count = 0;
    answer->room = FEW;
    answer->pieces = answer->first = answer->last = NULL;
}

int answer_make_room(Answer *answer, size_t more)
{
    size_t room = answer->room * 2 > answer->count + more ? answer->room * 2 : answer->count + more;
    PyObject **held = answer->ids == answer->few ? NULL : answer->ids;
    PyObject **ids = PyMem_Realloc(held, room * sizeof *ids);
    if (!ids) {
        PyErr_NoMemory();
        return -1;
    }
    if (!held)
        memcpy(ids, answer->few, answer->count * sizeof *ids);
    answer->ids = ids;
    answer->room = room;
    return 0;
}

/* The gathered ids as a list, which takes over their references. */
static PyObject *take_ids(Answer *answer)
{
    PyObject *list = PyList_New((Py_ssize_t)answer->count);
    if (list && answer->count)
        memcpy(((PyListObject *)list)->ob_item, answer->ids, answer->count * sizeof *answer->ids);
    if (list)
        answer->count = 0;
    return list;
}

/* Takes the piece over. */
static int append(PyObject *pieces, PyObject *piece)
{
    int failed = piece ? PyList_Append(pieces, piece) : -1;
    Py_XDECREF(piece);
    return failed;
}

static int end_stretch(Answer *answer)
{
    if (!answer->pieces)
        answer->pieces = PyList_New(0);
    if (!answer->pieces)
        return -1;
    return answer->count ? append(answer->pieces, take_ids(answer)) : 0;
}

int answer_add_missing(Answer *answer, PyObject *word)
{
    if (!word || end_stretch(answer)) {
        Py_XDECREF(word);
        return -1;
    }
    return append(answer->pieces, word);
}

PyObject *answer_object(Answer *answer)
{
    if (!answer->pieces && !answer->first && !answer->last)
        return take_ids(answer);
    if (end_stretch(answer))
        return NULL;
    return PyTuple_Pack(3, answer->first ? answer->first : Py_None, answer->pieces,
                        answer->last ? answer->last : Py_None);
}

void answer_close(Answer *answer)
{
    for (size_t at = 0; at < answer->count; at++)
        Py_DECREF(answer->ids[at]);
    if (answer->ids != answer->few)
        PyMem_Free(answer->ids);
    Py_XDECREF(answer->pieces);
    Py_XDECREF(answer->first);
    Py_XDECREF(answer->last);
}
