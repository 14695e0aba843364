/* For User-Mode Linux on hosts whose CPUs have more registers than it knows, such as Intel's AMX: preloaded to it.
 *
 * The host takes the registers of a process (PTRACE_SETREGSET, NT_X86_XSTATE) as a whole or not at all, and of Linux 6.12
 * UML has 2696 bytes for them. What is missing is handed over as zeros: nothing in there uses it. Later ones ask for the size
 * (Linux 6f64095699d4, "um: Fix FP register size for XSTATE/XSAVE").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NT_X86_XSTATE 0x202
#define SIZE (32 << 10)
/* UML's stacks are too small for one, and its tasks may be interrupted here by others. */
#define BUFFERS 64

static _Alignas(64) char buffers[BUFFERS][SIZE];
static atomic_flag used[BUFFERS];
static atomic_size_t host_size;

static long put_all(pid_t pid, const struct iovec *given)
{
    for (int at = 0; at < BUFFERS; at++) {
        if (atomic_flag_test_and_set(&used[at]))
            continue;
        struct iovec all = {buffers[at], SIZE};
        long status = 0;
        if (!host_size) {
            status = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all);
            host_size = status ? 0 : all.iov_len;
        }
        if (!status) {
            memcpy(all.iov_base, given->iov_base, given->iov_len);
            memset(buffers[at] + given->iov_len, 0, host_size - given->iov_len);
            all.iov_len = host_size;
            status = syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
        }
        atomic_flag_clear(&used[at]);
        return status;
    }
    errno = EAGAIN;
    return -1;
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);
    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) { /* as in glibc, the word is what is returned */
        long word;
        long status = syscall(SYS_ptrace, request, pid, address, &word);
        if (status >= 0)
            errno = 0;
        return status < 0 ? status : word;
    }
    int puts = request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE;
    if (puts && host_size > ((struct iovec *)data)->iov_len)
        return put_all(pid, data);
    long status = syscall(SYS_ptrace, request, pid, address, data);
    return puts && status && errno == EFAULT && !host_size ? put_all(pid, data) : status;
}
