/* clicks: rows of a made advertising log, for networks that predict clicks from categories.
 *
 * 20 fields have 200,000 ids in all; within a field popularity falls as one over the rank (Zipf).  Whether a row is a click is
 * drawn from a hidden factorization machine (S. Rendle, ICDM 2010) of rank 8 over the ids, with noise: there are effects of
 * each id and of each pair, and a best AUC that no model exceeds, that of the field "chance". */
#include <math.h>

#include "data/sets.h"

enum { N_FIELDS = 20, RANK = 8, N_IDS = 200000 };
static const uint32_t field_sizes[N_FIELDS] = {4, 8, 12, 20, 40, 60, 100, 200, 300, 500, 1000, 2000, 3000, 5000, 8000, 12000, 18000, 30000, 45000, 74756};

#define BIAS (-1.6f)
#define WEIGHT_SD 0.2f
#define FACTOR_SD 0.14f  /* 190 pairs of 8 products: standard deviation of their sum 0.14^2 sqrt(1520) = 0.76 */
#define NOISE_SD 0.5f

typedef struct hidden {
    float weight, factor[RANK];
} hidden;

typedef struct click_job {
    uint64_t seed;
    hidden *ids;             /* [N_IDS] */
} click_job;

/* Of the seed alone: training and test rows come from one truth. */
static void make_hidden(void *arg, size_t block, int worker)
{
    (void)worker;
    const click_job *job = arg;
    for (size_t id = block * 1000; id < (block + 1) * 1000; id++) {
        pith_rng rng = {.seed = job->seed, .stream = pith_hash("clicks hidden", 13), .index = id << 8};
        job->ids[id].weight = WEIGHT_SD * pith_rng_normal(&rng);
        for (int k = 0; k < RANK; k++) job->ids[id].factor[k] = FACTOR_SD * pith_rng_normal(&rng);
    }
}

static void make_row(const pith_data_request *r, pith_dataset *ds, void *user, size_t i)
{
    const click_job *job = user;
    pith_rng rng = pith_data_rng(r, i);
    int32_t *ids = (int32_t *)ds->fields[0].data + i * N_FIELDS;
    float score = BIAS, sum[RANK] = {0}, squares = 0;
    uint32_t first = 0;
    for (int f = 0; f < N_FIELDS; f++) {
        double u = (double)pith_rng_uniform(&rng); /* ranks are log-uniform: density one over the rank */
        uint32_t rank = PITH_MIN((uint32_t)pow((double)field_sizes[f] + 1, u) - 1, field_sizes[f] - 1);
        const hidden *h = &job->ids[first + rank];
        ids[f] = (int32_t)(first + rank);
        score += h->weight;
        for (int k = 0; k < RANK; k++) {
            sum[k] += h->factor[k];
            squares += h->factor[k] * h->factor[k];
        }
        first += field_sizes[f];
    }
    float pairs = -squares; /* twice the sum over pairs: the square of the sum less the squares */
    for (int k = 0; k < RANK; k++) pairs += sum[k] * sum[k];
    score += pairs / 2;
    ((float *)ds->fields[2].data)[i] = 1 / (1 + expf(-score));
    float noisy = score + NOISE_SD * pith_rng_normal(&rng);
    ((uint8_t *)ds->fields[1].data)[i] = pith_rng_uniform(&rng) < 1 / (1 + expf(-noisy));
}

pith_status pith_clicks_open(const pith_data_request *r, pith_dataset *ds)
{
    if (!pith_dataset_add(ds, "ids", PITH_FIELD_I32, PITH_FIELD_SHAPE(N_FIELDS)) || !pith_dataset_add(ds, "label", PITH_FIELD_U8, 0, NULL) ||
        !pith_dataset_add(ds, "chance", PITH_FIELD_F32, 0, NULL))
        return PITH_E_MEMORY;
    click_job job = {.seed = r->seed, .ids = pith_array(r->ctx, N_IDS, sizeof *job.ids)};
    if (!job.ids) return PITH_E_MEMORY;
    pith_parallel(r->ctx, N_IDS / 1000, make_hidden, &job);
    pith_status status = pith_data_fill(r, ds, make_row, &job);
    pith_free(r->ctx, job.ids);
    return status;
}
