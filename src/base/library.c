#include <dlfcn.h>

#include "base/library.h"

pith_status pith_library_open(pith_ctx *ctx, const char *what, const char *file, const char *package, const char *const *names, void *library)
{
    /* It stays once it is loaded: some of what FFmpeg needs leaks when it is unloaded, and the next file opens at once. */
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    memcpy(library, &handle, sizeof handle);
    if (!handle) return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: this takes %s, which is not installed: apt-get install %s", what, file, package);
    for (size_t i = 0; names[i]; i++) {
        void *function = dlsym(handle, names[i]);
        memcpy((char *)library + (1 + i) * sizeof handle, &function, sizeof function); /* POSIX: both kinds of pointers are alike */
        if (function) continue;
        pith_library_close(library);
        return pith_fail(ctx, PITH_E_UNSUPPORTED, "%s: %s has no function %s; is it another library of that name? apt-get install %s", what, file, names[i], package);
    }
    return PITH_OK;
}

void pith_library_close(void *library)
{
    void *handle, *none = NULL;
    memcpy(&handle, library, sizeof handle);
    memcpy(library, &none, sizeof none);
    if (handle) dlclose(handle);
}
