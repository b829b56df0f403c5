/* `count_values` of `appliance.telemetry.native.buckets`, described in `buckets.pyi`. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct {
    Py_ssize_t size; /* bounds; there is one bucket more */
    double *bounds;
    Py_ssize_t *found;
} Buckets;

/* Floats and ints, and what is derived from them: reading these runs no code of others. -1 with an error. */
static int read_number(PyObject *object, double *number)
{
    if (PyFloat_Check(object)) {
        *number = PyFloat_AS_DOUBLE(object);
        return 0;
    }
    if (!PyLong_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a number is needed, not %.80s", Py_TYPE(object)->tp_name);
        return -1;
    }
    *number = PyLong_AsDouble(object);
    return *number == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static int read_bounds(Buckets *buckets, PyObject *bounds)
{
    for (Py_ssize_t at = 0; at < buckets->size; at++)
        if (read_number(PyTuple_GET_ITEM(bounds, at), &buckets->bounds[at]))
            return -1;
    return 0;
}

/* Bounds are few, so the buckets are tried one after the other. */
static int sort_in(Buckets *buckets, PyObject *values, double *total)
{
    Py_ssize_t size = PySequence_Fast_GET_SIZE(values);
    for (Py_ssize_t at = 0; at < size; at++) {
        double value;
        Py_ssize_t bucket = 0;
        if (read_number(PySequence_Fast_GET_ITEM(values, at), &value))
            return -1;
        while (bucket < buckets->size && buckets->bounds[bucket] < value)
            bucket++;
        buckets->found[bucket]++;
        *total += value;
    }
    return 0;
}

/* New ints for all buckets that got something, before the first of them is put into the list. */
static int add_found(const Buckets *buckets, PyObject *counts)
{
    for (Py_ssize_t at = 0; at <= buckets->size; at++) {
        Py_ssize_t before = PyLong_AsSsize_t(PyList_GET_ITEM(counts, at));
        if (before == -1 && PyErr_Occurred())
            return -1;
        buckets->found[at] += before;
    }
    for (Py_ssize_t at = 0; at <= buckets->size; at++) {
        PyObject *count = PyLong_FromSsize_t(buckets->found[at]);
        if (!count)
            return -1;
        PyList_SetItem(counts, at, count);
    }
    return 0;
}

static PyObject *count_all(Buckets *buckets, PyObject *bounds, PyObject *counts, PyObject *values)
{
    double total = 0.0;
    if (read_bounds(buckets, bounds) || sort_in(buckets, values, &total) || add_found(buckets, counts))
        return NULL;
    return PyFloat_FromDouble(total);
}

static PyObject *count_values(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_Check(args[0]) || !PyList_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "count_values takes a tuple of bounds, a list of counts, and values");
        return NULL;
    }
    Buckets buckets = {.size = PyTuple_GET_SIZE(args[0])};
    if (PyList_GET_SIZE(args[1]) != buckets.size + 1) {
        PyErr_SetString(PyExc_ValueError, "there must be one count more than bounds");
        return NULL;
    }
    PyObject *values = PySequence_Fast(args[2], "values must be a sequence");
    if (!values)
        return NULL;
    PyObject *total = NULL;
    buckets.bounds = PyMem_Calloc(buckets.size + 1, sizeof(double));
    buckets.found = PyMem_Calloc(buckets.size + 1, sizeof(Py_ssize_t));
    if (buckets.bounds && buckets.found)
        total = count_all(&buckets, args[0], args[1], values);
    else
        PyErr_NoMemory();
    PyMem_Free(buckets.bounds);
    PyMem_Free(buckets.found);
    Py_DECREF(values);
    return total;
}

static PyMethodDef methods[] = {
    {"count_values", (PyCFunction)(void (*)(void))count_values, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "buckets",
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_buckets(void)
{
    return PyModuleDef_Init(&definition);
}
