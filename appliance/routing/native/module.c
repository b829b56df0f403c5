/* The module `appliance.routing.native.block_tree`, and its class `BlockTree`; described in `block_tree.pyi`. */

#include "objects.h"

typedef struct {
    PyObject_HEAD
    Tree tree;
    PyObject *numbers; /* dict: holder -> number */
    PyObject *names;   /* list: holders by number, None where one is free */
} BlockTree;

/* 1 and its number, 0 for an unknown holder, -1 with an error. */
static int find_holder(BlockTree *self, PyObject *holder, uint32_t *number)
{
    PyObject *found = PyDict_GetItemWithError(self->numbers, holder);
    if (!found)
        return PyErr_Occurred() ? -1 : 0;
    *number = (uint32_t)PyLong_AsUnsignedLong(found);
    return 1;
}

static int add_holder(BlockTree *self, PyObject *holder, uint32_t *number)
{
    if (!tree_add_holder(&self->tree, number)) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *value = PyLong_FromUnsignedLong(*number);
    int failed = !value || (*number == (size_t)PyList_GET_SIZE(self->names) && PyList_Append(self->names, Py_None)) ||
                 PyDict_SetItem(self->numbers, holder, value);
    Py_XDECREF(value);
    if (failed) {
        tree_forget_holder(&self->tree, *number);
        return -1;
    }
    return PyList_SetItem(self->names, (Py_ssize_t)*number, Py_NewRef(holder));
}

/* 1, the holder's number and the node that its new blocks follow; 0 when it does not have that; -1 with an error. */
static int find_start(BlockTree *self, PyObject *holder, PyObject *parent, uint32_t *number, uint32_t *node)
{
    int found = find_holder(self, holder, number);
    *node = ROOT;
    if (found < 0)
        return -1;
    if (parent == Py_None)
        return found || !add_holder(self, holder, number) ? 1 : -1;
    uint64_t id;
    if (!found)
        return 0;
    if (read_word(parent, &id)) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    *node = tree_locate(&self->tree, *number, id);
    return *node != ROOT;
}

static PyObject *store_words(BlockTree *self, PyObject *const *args, const Words *ids, const Words *locals)
{
    uint32_t number, node;
    if (ids->count != locals->count)
        return PyErr_Format(PyExc_ValueError, "cannot store %zu blocks with %zu local hashes", ids->count,
                            locals->count);
    int tier = read_tier(args[4]);
    int found = tier < 0 ? -1 : find_start(self, args[0], args[3], &number, &node);
    if (found <= 0)
        return found < 0 ? NULL : Py_NewRef(Py_False);
    for (size_t at = 0; at < ids->count; at++)
        if (!tree_store(&self->tree, number, node, ids->values[at], locals->values[at], tier, &node))
            return PyErr_NoMemory();
    return Py_NewRef(Py_True);
}

static PyObject *store(BlockTree *self, PyObject *const *args, Py_ssize_t count)
{
    Words ids, locals;
    if (check_count(count, 5, "store") || read_block_words(args[1], &ids))
        return NULL;
    if (read_block_words(args[2], &locals)) {
        free_words(&ids);
        return NULL;
    }
    PyObject *known = store_words(self, args, &ids, &locals);
    free_words(&ids);
    free_words(&locals);
    return known;
}

/* 1 when the holder had the block in a tier, 0 when not, -1 with an error. */
static int remove_block(BlockTree *self, uint32_t number, PyObject *block, int tier)
{
    uint64_t id;
    if (!read_word(block, &id))
        return tree_remove(&self->tree, number, id, tier);
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear(); /* no block has such an id */
    return 0;
}

static PyObject *remove_blocks(BlockTree *self, PyObject *const *args, Py_ssize_t count)
{
    if (check_count(count, 3, "remove"))
        return NULL;
    uint32_t number;
    int tier = read_tier(args[2]);
    PyObject *sequence = tier < 0 ? NULL : PySequence_Fast(args[1], "needs a sequence of numbers");
    int found = sequence ? find_holder(self, args[0], &number) : -1;
    bool known = found > 0 || (!found && !PySequence_Fast_GET_SIZE(sequence));
    for (Py_ssize_t at = 0; found > 0 && at < PySequence_Fast_GET_SIZE(sequence); at++) {
        PyObject *block = Py_NewRef(PySequence_Fast_GET_ITEM(sequence, at));
        int removed = remove_block(self, number, block, tier);
        Py_DECREF(block);
        known &= removed > 0;
        if (removed < 0)
            found = -1;
    }
    Py_XDECREF(sequence);
    return found < 0 ? NULL : PyBool_FromLong(known);
}

static PyObject *forget(BlockTree *self, PyObject *holder)
{
    uint32_t number;
    int found = find_holder(self, holder, &number);
    if (found <= 0)
        return found < 0 ? NULL : Py_NewRef(Py_None);
    if (PyDict_DelItem(self->numbers, holder) || PyList_SetItem(self->names, (Py_ssize_t)number, Py_NewRef(Py_None)))
        return NULL;
    tree_forget_holder(&self->tree, number);
    Py_RETURN_NONE;
}

static PyObject *holders(BlockTree *self, PyObject *unused)
{
    return PyDict_Keys(self->numbers);
}

static PyObject *block_counts(BlockTree *self, PyObject *holder)
{
    uint32_t number;
    int found = find_holder(self, holder, &number);
    if (found <= 0)
        return found < 0 ? NULL : Py_BuildValue("(iii)", 0, 0, 0);
    const uint64_t *blocks = self->tree.caches[number].blocks;
    return Py_BuildValue("(KKK)", (unsigned long long)blocks[0], (unsigned long long)blocks[1],
                         (unsigned long long)blocks[2]);
}

static PyObject *kept(BlockTree *self, PyObject *unused)
{
    return PyLong_FromUnsignedLong(self->tree.live);
}

static Py_ssize_t length(BlockTree *self)
{
    return (Py_ssize_t)(self->tree.blocks[0] + self->tree.blocks[1] + self->tree.blocks[2]);
}

static PyObject *find_matches(BlockTree *self, PyObject *locals)
{
    Words words;
    if (read_words(locals, &words))
        return NULL;
    uint32_t holder_count = self->tree.holder_count;
    uint32_t *depths = PyMem_New(uint32_t, (size_t)TIERS * holder_count + 1);
    bool done = depths && tree_match(&self->tree, words.values, words.count, depths);
    free_words(&words);
    PyObject *result = done ? answer_scores(self->names, depths, holder_count) : PyErr_NoMemory();
    PyMem_Free(depths);
    return result;
}

static PyObject *shared_blocks(BlockTree *self, PyObject *const *args, Py_ssize_t count)
{
    Words words;
    int tier = check_count(count, 2, "shared_blocks") ? -1 : read_tier(args[1]);
    if (tier < 0 || read_words(args[0], &words))
        return NULL;
    size_t shared = tree_shared(&self->tree, words.values, words.count, tier);
    free_words(&words);
    return PyLong_FromSize_t(shared);
}

static PyObject *picture(BlockTree *self, PyObject *holder)
{
    uint32_t number;
    int found = find_holder(self, holder, &number);
    if (found <= 0)
        return found < 0 ? NULL : PyList_New(0);
    size_t count;
    Pictured *blocks = tree_picture(&self->tree, number, &count);
    if (!blocks)
        return PyErr_NoMemory();
    PyObject *result = answer_picture(blocks, count);
    PyMem_Free(blocks);
    return result;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "BlockTree takes no arguments");
        return NULL;
    }
    BlockTree *self = (BlockTree *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->numbers = PyDict_New();
    self->names = PyList_New(0);
    bool opened = tree_open(&self->tree);
    if (!opened)
        PyErr_NoMemory();
    if (!self->numbers || !self->names || !opened) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int traverse(BlockTree *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->numbers);
    Py_VISIT(self->names);
    return 0;
}

static void dealloc(BlockTree *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->numbers);
    Py_CLEAR(self->names);
    tree_close(&self->tree);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"store", (PyCFunction)(void (*)(void))store, METH_FASTCALL, NULL},
    {"remove", (PyCFunction)(void (*)(void))remove_blocks, METH_FASTCALL, NULL},
    {"forget", (PyCFunction)forget, METH_O, NULL},
    {"holders", (PyCFunction)holders, METH_NOARGS, NULL},
    {"block_counts", (PyCFunction)block_counts, METH_O, NULL},
    {"kept", (PyCFunction)kept, METH_NOARGS, NULL},
    {"find_matches", (PyCFunction)find_matches, METH_O, NULL},
    {"shared_blocks", (PyCFunction)(void (*)(void))shared_blocks, METH_FASTCALL, NULL},
    {"picture", (PyCFunction)picture, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, new},
    {Py_tp_traverse, traverse},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_sq_length, length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "appliance.routing.native.block_tree.BlockTree",
    .basicsize = sizeof(BlockTree),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int execute(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = !type || PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyMethodDef functions[] = {
    {"hash_blocks", (PyCFunction)(void (*)(void))hash_blocks, METH_FASTCALL, NULL},
    {"chain_hashes", (PyCFunction)(void (*)(void))chain_hashes, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "block_tree",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_block_tree(void)
{
    return PyModuleDef_Init(&definition);
}
