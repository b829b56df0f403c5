/* XXH3-64 after its specification: one way for each range of lengths, all of plain 64-bit arithmetic. Words are
 * little-endian wherever it runs. */

#include <string.h>

#include "xxh3.h"

enum { STRIPE = 64, LANES = 8, TINY = 8, SHORT = 16, MEDIUM = 128, LARGE = 240 }; /* bytes, but for the lanes */
enum { LAST_STRIPE_AT = XXH3_SECRET_BYTES - STRIPE, STRIPES_A_BLOCK = LAST_STRIPE_AT / 8 };

#define PRIME32_1 UINT64_C(0x9E3779B1)
#define PRIME32_2 UINT64_C(0x85EBCA77)
#define PRIME32_3 UINT64_C(0xC2B2AE3D)
#define PRIME64_1 UINT64_C(0x9E3779B185EBCA87)
#define PRIME64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define PRIME64_3 UINT64_C(0x165667B19E3779F9)
#define PRIME64_4 UINT64_C(0x85EBCA77C2B2AE63)
#define PRIME64_5 UINT64_C(0x27D4EB2F165667C5)
#define MIX_1 UINT64_C(0x165667919E3779F9)
#define MIX_2 UINT64_C(0x9FB21C651E98DF25)

static const uint8_t SECRET[XXH3_SECRET_BYTES] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint32_t read32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(word) : word;
}

static uint64_t read64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(word) : word;
}

static void write64(uint8_t *at, uint64_t word)
{
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
        word = __builtin_bswap64(word);
    memcpy(at, &word, sizeof word);
}

static uint64_t rotate(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

/* Both halves of the product of two words, in one. */
static uint64_t multiply(uint64_t one, uint64_t other)
{
    __extension__ unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t avalanche(uint64_t hash)
{
    hash ^= hash >> 37;
    hash *= MIX_1;
    return hash ^ hash >> 32;
}

static uint64_t of_4_to_8(const uint8_t *input, size_t length, uint64_t seed)
{
    seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
    uint64_t both = read32(input + length - 4) + ((uint64_t)read32(input) << 32);
    uint64_t hash = both ^ ((read64(SECRET + 8) ^ read64(SECRET + 16)) - seed);
    hash ^= rotate(hash, 49) ^ rotate(hash, 24);
    hash *= MIX_2;
    hash ^= (hash >> 35) + length;
    hash *= MIX_2;
    return hash ^ hash >> 28;
}

/* The first eight and the last eight bytes. */
static uint64_t of_9_to_16(uint64_t first, uint64_t last, size_t length, uint64_t seed)
{
    first ^= (read64(SECRET + 24) ^ read64(SECRET + 32)) + seed;
    last ^= (read64(SECRET + 40) ^ read64(SECRET + 48)) - seed;
    return avalanche(length + __builtin_bswap64(first) + last + multiply(first, last));
}

static uint64_t mix_16(const uint8_t *input, const uint8_t *secret, uint64_t seed)
{
    return multiply(read64(input) ^ (read64(secret) + seed), read64(input + 8) ^ (read64(secret + 8) - seed));
}

/* From both ends to the middle, where the pieces may overlap. */
static uint64_t of_17_to_128(const uint8_t *input, size_t length, uint64_t seed)
{
    uint64_t hash = length * PRIME64_1;
    const uint8_t *secret = SECRET, *end = input + length;
    for (size_t rest = length;; rest -= 32) {
        hash += mix_16(input, secret, seed) + mix_16(end -= 16, secret + 16, seed);
        if (rest <= 32)
            return avalanche(hash);
        input += 16;
        secret += 32;
    }
}

static uint64_t of_129_to_240(const uint8_t *input, size_t length, uint64_t seed)
{
    uint64_t hash = length * PRIME64_1;
    size_t at = 0;
    for (; at < MEDIUM; at += 16)
        hash += mix_16(input + at, SECRET + at, seed);
    hash = avalanche(hash);
    for (; at + 16 <= length; at += 16)
        hash += mix_16(input + at, SECRET + at - MEDIUM + 3, seed);
    hash += mix_16(input + length - 16, SECRET + 136 - 17, seed);
    return avalanche(hash);
}

static void take_stripe(uint64_t *lanes, const uint8_t *input, const uint8_t *secret)
{
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t word = read64(input + 8 * lane), key = word ^ read64(secret + 8 * lane);
        lanes[lane ^ 1] += word;
        lanes[lane] += (key & UINT32_MAX) * (key >> 32);
    }
}

static void scramble(uint64_t *lanes, const uint8_t *secret)
{
    for (int lane = 0; lane < LANES; lane++) {
        lanes[lane] ^= lanes[lane] >> 47;
        lanes[lane] ^= read64(secret + 8 * lane);
        lanes[lane] *= PRIME32_1;
    }
}

static uint64_t merge(const uint64_t *lanes, const uint8_t *secret, size_t length)
{
    uint64_t hash = length * PRIME64_1;
    for (int lane = 0; lane < LANES; lane += 2)
        hash += multiply(lanes[lane] ^ read64(secret + 8 * lane), lanes[lane + 1] ^ read64(secret + 8 * lane + 8));
    return avalanche(hash);
}

/* Stripe by stripe, each with a window of the secret that moves on by a word; the last one may overlap. */
static uint64_t of_more(const uint8_t *input, size_t length, const uint8_t *secret)
{
    uint64_t lanes[LANES] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    size_t stripes = (length - 1) / STRIPE;
    for (size_t stripe = 0; stripe < stripes; stripe++) {
        size_t window = stripe % STRIPES_A_BLOCK;
        take_stripe(lanes, input + stripe * STRIPE, secret + 8 * window);
        if (window == STRIPES_A_BLOCK - 1)
            scramble(lanes, secret + LAST_STRIPE_AT);
    }
    take_stripe(lanes, input + length - STRIPE, secret + LAST_STRIPE_AT - 7);
    return merge(lanes, secret + 11, length);
}

void xxh3_open(Xxh3 *xxh3, uint64_t seed)
{
    xxh3->seed = seed;
    for (size_t at = 0; at < XXH3_SECRET_BYTES; at += 16) {
        write64(xxh3->secret + at, read64(SECRET + at) + seed);
        write64(xxh3->secret + at + 8, read64(SECRET + at + 8) - seed);
    }
}

uint64_t xxh3_hash(const Xxh3 *xxh3, const void *input, size_t length)
{
    if (length > LARGE)
        return of_more(input, length, xxh3->secret);
    if (length > MEDIUM)
        return of_129_to_240(input, length, xxh3->seed);
    if (length > SHORT)
        return of_17_to_128(input, length, xxh3->seed);
    if (length > TINY)
        return of_9_to_16(read64(input), read64((const uint8_t *)input + length - 8), length, xxh3->seed);
    return of_4_to_8(input, length, xxh3->seed);
}

uint64_t xxh3_hash_pair(uint64_t first, uint64_t last, uint64_t seed)
{
    return of_9_to_16(first, last, 16, seed);
}
