/* Labelled images. */
#include "recipe/labelled.h"

int64_t pith_labelled_class(const pith_dataset *ds, size_t item)
{
    const pith_field *label = pith_dataset_field(ds, "label");
    const void *at = pith_field_item(label, item);
    return label->type == PITH_FIELD_U8 ? *(const uint8_t *)at : *(const int32_t *)at;
}

pith_status pith_labelled_open(pith_run *run, const pith_names *names, bool test, size_t n, pith_labelled *common, pith_dataset **ds)
{
    PITH_TRY(pith_run_data(run, names, test ? "test" : "train", &(pith_dataset_options){.n = n}, ds));
    const pith_field *image = pith_dataset_field(*ds, "image"), *label = pith_dataset_field(*ds, "label");
    if (!image || image->type != PITH_FIELD_U8 || image->n_dims != 3 || !label || label->type == PITH_FIELD_F32)
        return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has no labelled images; name another in the card's settings", (*ds)->name);
    if (test && memcmp(common->dims, image->dims, sizeof common->dims) != 0) return pith_fail(run->ctx, PITH_E_ARGUMENT, "the data set %s has test images of another shape", (*ds)->name);
    memcpy(common->dims, image->dims, sizeof common->dims);
    common->n_columns = label->n_values;
    for (size_t k = 0; k < (*ds)->n; k++) {
        int64_t class = pith_labelled_class(*ds, k);
        if (class < 0) return pith_fail(run->ctx, PITH_E_ARGUMENT, "item %zu of the data set %s has no label", k, (*ds)->name);
        common->n_classes = PITH_MAX(common->n_classes, (size_t)class + 1);
    }
    return PITH_OK;
}

size_t pith_labelled_right(const pith_var *logits, const int32_t *class)
{
    size_t n = logits->dims[logits->n_dims - 1], right = 0;
    for (size_t r = 0; r < logits->count / n; r++) right += (int32_t)pith_argmax(logits->data + r * n, n) == class[r];
    return right;
}
