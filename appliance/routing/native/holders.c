/* Who has a block. Few holders fit into the word itself; more of them are sets of bits, a row for each tier.
 *
 * A word with its lowest bit set has up to three fields, each a mask of tiers and the number of a holder; the mask is
 * 0 where a field is unused. Any other word is the address of a Crowd. */

#include "tree.h"

enum { FIELDS = 3, FIELD_BITS = 21, ALL = (1 << TIERS) - 1 };

typedef struct {
    uint32_t words; /* of a row */
    uint16_t rows;
    uint32_t count; /* holders; FIELDS or fewer go back into the word */
    uint64_t bits[];
} Crowd;

static Crowd *crowd_of(Holders holders)
{
    return (Crowd *)(uintptr_t)holders;
}

static bool in_word(Holders holders)
{
    return holders & 1;
}

static unsigned shift_of(int field)
{
    return 1 + FIELD_BITS * (unsigned)field;
}

static unsigned tiers_in(Holders holders, int field)
{
    return holders >> shift_of(field) & ALL;
}

static uint32_t holder_in(Holders holders, int field)
{
    return holders >> (shift_of(field) + TIERS) & (MAX_HOLDERS - 1);
}

static Holders with_field(Holders holders, int field, uint32_t holder, unsigned tiers)
{
    uint64_t mask = (UINT64_C(1) << FIELD_BITS) - 1;
    uint64_t value = tiers ? (uint64_t)holder << TIERS | tiers : 0;
    return (holders & ~(mask << shift_of(field))) | value << shift_of(field);
}

static unsigned crowd_get(const Crowd *crowd, uint32_t holder)
{
    unsigned tiers = 0;
    if (holder / 64 < crowd->words)
        for (unsigned row = 0; row < crowd->rows; row++)
            tiers |= (unsigned)(crowd->bits[row * crowd->words + holder / 64] >> holder % 64 & 1) << row;
    return tiers;
}

static void crowd_put(Crowd *crowd, uint32_t holder, unsigned tiers)
{
    for (unsigned row = 0; row < crowd->rows; row++) {
        uint64_t *word = &crowd->bits[row * crowd->words + holder / 64];
        uint64_t bit = UINT64_C(1) << holder % 64;
        *word = tiers >> row & 1 ? *word | bit : *word & ~bit;
    }
}

static Crowd *new_crowd(uint32_t words, uint16_t rows)
{
    Crowd *crowd = PyMem_Calloc(1, sizeof *crowd + sizeof(uint64_t) * words * rows);
    if (crowd) {
        crowd->words = words;
        crowd->rows = rows;
    }
    return crowd;
}

/* Make a crowd large enough for a holder and tiers; the new one takes the place of the old. */
static Crowd *widen(Holders *holders, uint32_t holder, unsigned tiers, uint32_t holder_count)
{
    Crowd *old = in_word(*holders) ? NULL : crowd_of(*holders);
    unsigned all = tiers;
    for (int field = 0; !old && field < FIELDS; field++)
        all |= tiers_in(*holders, field);
    uint16_t rows = all >> 2 ? 3 : all >> 1 ? 2 : 1;
    if (old && rows <= old->rows && holder / 64 < old->words)
        return old;
    uint32_t words = (holder_count + 63) / 64;
    Crowd *crowd = new_crowd(words, old && old->rows > rows ? old->rows : rows);
    if (!crowd)
        return NULL;
    if (old) {
        crowd->count = old->count;
        for (unsigned row = 0; row < old->rows; row++)
            for (uint32_t word = 0; word < old->words; word++)
                crowd->bits[row * words + word] = old->bits[row * old->words + word];
        PyMem_Free(old);
    } else {
        crowd->count = FIELDS;
        for (int field = 0; field < FIELDS; field++)
            crowd_put(crowd, holder_in(*holders, field), tiers_in(*holders, field));
    }
    *holders = (Holders)(uintptr_t)crowd;
    return crowd;
}

/* Write a crowd that has become small back into a word. */
static Holders narrow(Crowd *crowd)
{
    Holders holders = NO_HOLDERS;
    int field = 0;
    for (uint32_t word = 0; word < crowd->words; word++) {
        uint64_t any = 0;
        for (unsigned row = 0; row < crowd->rows; row++)
            any |= crowd->bits[row * crowd->words + word];
        for (; any; any &= any - 1) {
            uint32_t holder = word * 64 + (uint32_t)__builtin_ctzll(any);
            holders = with_field(holders, field++, holder, crowd_get(crowd, holder));
        }
    }
    PyMem_Free(crowd);
    return holders;
}

unsigned holders_get(Holders holders, uint32_t holder)
{
    if (!in_word(holders))
        return crowd_get(crowd_of(holders), holder);
    for (int field = 0; field < FIELDS; field++)
        if (tiers_in(holders, field) && holder_in(holders, field) == holder)
            return tiers_in(holders, field);
    return 0;
}

bool holders_put(Holders *holders, uint32_t holder, unsigned tiers, uint32_t holder_count)
{
    unsigned had = holders_get(*holders, holder);
    if (in_word(*holders)) {
        for (int field = 0; field < FIELDS; field++)
            if (had ? tiers_in(*holders, field) && holder_in(*holders, field) == holder : !tiers_in(*holders, field)) {
                *holders = with_field(*holders, field, holder, tiers);
                return true;
            }
        if (!tiers)
            return true;
    }
    if (!tiers && !had)
        return true;
    Crowd *crowd = tiers ? widen(holders, holder, tiers, holder_count) : crowd_of(*holders);
    if (!crowd)
        return false;
    crowd_put(crowd, holder, tiers);
    crowd->count = crowd->count + !had - !tiers;
    if (crowd->count < FIELDS) /* one less than fit, so that one that comes and goes does not cost much */
        *holders = narrow(crowd);
    return true;
}

bool holders_any(Holders holders, int tier)
{
    if (in_word(holders)) {
        unsigned tiers = 0;
        for (int field = 0; field < FIELDS; field++)
            tiers |= tiers_in(holders, field);
        return tiers >> tier & 1;
    }
    const Crowd *crowd = crowd_of(holders);
    for (uint32_t word = 0; tier < crowd->rows && word < crowd->words; word++)
        if (crowd->bits[(unsigned)tier * crowd->words + word])
            return true;
    return false;
}

bool holders_keep(Holders holders, int tier, uint64_t *alive, uint64_t *gone, uint32_t words)
{
    const Crowd *crowd = in_word(holders) ? NULL : crowd_of(holders);
    const uint64_t *row = crowd && tier < crowd->rows ? &crowd->bits[(unsigned)tier * crowd->words] : NULL;
    uint32_t known = row ? (crowd->words < words ? crowd->words : words) : 0;
    uint64_t any = 0;
    for (uint32_t word = 0; word < known; word++) {
        any |= gone[word] = alive[word] & ~row[word];
        alive[word] &= row[word];
    }
    for (uint32_t word = known; word < words; word++) {
        any |= gone[word] = alive[word];
        alive[word] = 0;
    }
    for (int field = 0; !crowd && field < FIELDS; field++) {
        uint32_t holder = holder_in(holders, field);
        uint64_t bit = UINT64_C(1) << holder % 64;
        if (tiers_in(holders, field) >> tier & 1 && gone[holder / 64] & bit) {
            gone[holder / 64] ^= bit;
            alive[holder / 64] ^= bit;
        }
    }
    if (crowd)
        return any != 0;
    for (uint32_t word = 0; word < words; word++)
        if (gone[word])
            return true;
    return false;
}

void holders_free(Holders holders)
{
    if (!in_word(holders))
        PyMem_Free(crowd_of(holders));
}
