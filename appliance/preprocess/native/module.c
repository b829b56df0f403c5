/* The class `WordTable` of `appliance.preprocess.native.word_table`, described in `word_table.pyi`. */

#include "words.h"

typedef struct {
    PyObject_HEAD
    Table table;
} WordTable;

static int check_count(Py_ssize_t given, Py_ssize_t wanted, const char *name)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
    return -1;
}

/* The first or last part of a text, which goes to `missing` when it is not known. */
static int look_up_end(Answer *answer, const Table *ends, PyObject *string, const Text *text, const Part *part,
                       PyObject **missing)
{
    const Entry *entry = table_find(ends, text, part);
    if (entry)
        return answer_add_ids(answer, entry);
    *missing = PyUnicode_Substring(string, part->start, part->end);
    return *missing ? 0 : -1;
}

static int look_up_word(Answer *answer, const Table *words, PyObject *string, const Text *text, const Part *part)
{
    const Entry *entry = table_find(words, text, part);
    if (entry)
        return answer_add_ids(answer, entry);
    return answer_add_missing(answer, PyUnicode_Substring(string, part->start, part->end));
}

/* How many words there were between both ends, or -1 with an error. */
static Py_ssize_t look_up(Answer *answer, const Table *words, const Table *ends, PyObject *string, const Text *text)
{
    Part part = cut_part(text, 0, ends->seed);
    if (part.end == text->length)
        return 0;
    if (look_up_end(answer, ends, string, text, &part, &answer->first))
        return -1;
    for (Py_ssize_t count = 0;; count++) {
        part = cut_part(text, part.end + 1, words->seed);
        if (part.end == text->length) {
            part = make_part(text, part.start - 1, part.end, ends->seed); /* with the space in front */
            return look_up_end(answer, ends, string, text, &part, &answer->last) ? -1 : count;
        }
        if (look_up_word(answer, words, string, text, &part))
            return -1;
    }
}

static PyObject *find(WordTable *self, PyObject *const *args, Py_ssize_t count)
{
    Text text;
    if (check_count(count, 2, "find") || read_text(args[0], &text))
        return NULL;
    if (!Py_IS_TYPE(args[1], Py_TYPE(self)))
        return PyErr_Format(PyExc_TypeError, "needs a WordTable for the ends");
    Answer answer;
    answer_open(&answer);
    Py_ssize_t words = look_up(&answer, &self->table, &((WordTable *)args[1])->table, args[0], &text);
    PyObject *found = words < 0 ? NULL : words ? answer_object(&answer) : Py_NewRef(Py_None);
    answer_close(&answer);
    return found;
}

static int check_ids(PyObject *sequence)
{
    if (PySequence_Fast_GET_SIZE(sequence) > (Py_ssize_t)UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "too many ids");
        return -1;
    }
    for (Py_ssize_t at = 0; at < PySequence_Fast_GET_SIZE(sequence); at++)
        if (!PyLong_CheckExact(PySequence_Fast_GET_ITEM(sequence, at))) {
            PyErr_SetString(PyExc_TypeError, "ids must be ints");
            return -1;
        }
    return 0;
}

static PyObject *add(WordTable *self, PyObject *const *args, Py_ssize_t count)
{
    Text text;
    if (check_count(count, 2, "add") || read_text(args[0], &text))
        return NULL;
    PyObject *ids = PySequence_Fast(args[1], "needs a sequence of ids");
    if (!ids || check_ids(ids)) {
        Py_XDECREF(ids);
        return NULL;
    }
    Part whole = make_part(&text, 0, text.length, self->table.seed);
    bool kept = table_find(&self->table, &text, &whole) ||
                table_add(&self->table, &text, &whole, PySequence_Fast_ITEMS(ids),
                          (uint32_t)PySequence_Fast_GET_SIZE(ids));
    Py_DECREF(ids);
    return kept ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

static Py_ssize_t length(WordTable *self)
{
    return (Py_ssize_t)self->table.used;
}

/* Python's secret for hashes, if it has one, so that nobody outside knows which words collide. */
static int open_table(Table *table)
{
    PyObject *name = PyUnicode_FromString("WordTable");
    Py_hash_t seed = name ? PyObject_Hash(name) : -1;
    Py_XDECREF(name);
    if (seed == -1)
        return -1;
    if (table_open(table, (uint64_t)seed))
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "WordTable takes no arguments");
        return NULL;
    }
    WordTable *self = (WordTable *)type->tp_alloc(type, 0);
    if (self && open_table(&self->table))
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* Exact ints refer to nothing, so there are no circles to collect. */
static void dealloc(WordTable *self)
{
    PyTypeObject *type = Py_TYPE(self);
    table_close(&self->table);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"find", (PyCFunction)(void (*)(void))find, METH_FASTCALL, NULL},
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_sq_length, length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "appliance.preprocess.native.word_table.WordTable",
    .basicsize = sizeof(WordTable),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

static int execute(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = !type || PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "word_table",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_word_table(void)
{
    return PyModuleDef_Init(&definition);
}
