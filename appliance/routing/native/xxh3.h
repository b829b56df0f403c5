/* The 64-bit hash XXH3, with a seed, of inputs of at least four bytes: all that a block of tokens can be. */

#ifndef APPLIANCE_ROUTING_XXH3_H
#define APPLIANCE_ROUTING_XXH3_H

#include <stddef.h>
#include <stdint.h>

enum { XXH3_SECRET_BYTES = 192 };

typedef struct {
    uint64_t seed;
    uint8_t secret[XXH3_SECRET_BYTES]; /* the algorithm's own, changed by the seed; long inputs are mixed with it */
} Xxh3;

void xxh3_open(Xxh3 *xxh3, uint64_t seed);
uint64_t xxh3_hash(const Xxh3 *xxh3, const void *input, size_t length);
uint64_t xxh3_hash_pair(uint64_t first, uint64_t last, uint64_t seed); /* of two little-endian words */

#endif
