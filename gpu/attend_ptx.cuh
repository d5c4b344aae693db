// The machine's instructions that the kernels use, one function each.
#ifndef GPU_ATTEND_PTX_CUH
#define GPU_ATTEND_PTX_CUH

#include <cuda_fp16.h>
#include <stdint.h>

#define DEVICE __device__ __forceinline__

// Bulk copies with an arrival barrier, and conversion of FP8, are there from compute capability 9.0 on.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define HAS_BULK 1
#else
#define HAS_BULK 0
#endif

// c += a · b, 16x8x16: a 16 rows of 16 FP16, b 16 rows of 8, c in single precision.
DEVICE void matrix_add(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Transpose an 8x8 matrix of 16-bit values spread over the warp.
DEVICE uint32_t transpose(uint32_t x)
{
	uint32_t y;
	asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
	return y;
}

DEVICE float exp2_fast(float x)
{
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// Policy for data that is read once: it is to leave the L2 cache before anything else, above all the code.
DEVICE uint64_t read_once()
{
	uint64_t policy;
	asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

// (x & mask) | set in one instruction: `set` has to come from a register.
template <uint32_t mask> DEVICE uint32_t and_or(uint32_t x, uint32_t set)
{
	uint32_t y;
	asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "n"(mask), "r"(set));
	return y;
}

// A constant that the compiler keeps in a register.
template <uint32_t value> DEVICE uint32_t in_register()
{
	uint32_t x;
	asm volatile("mov.b32 %0, %1;" : "=r"(x) : "n"(value));
	return x;
}

// The same value, which the compiler keeps in a register, too, and does not compute again.
DEVICE uint32_t keep(uint32_t x)
{
	asm volatile("" : "+r"(x));
	return x;
}

DEVICE uint32_t half2_bits(__half2 x)
{
	return *reinterpret_cast<uint32_t *>(&x);
}

DEVICE __half2 bits_half2(uint32_t x)
{
	return *reinterpret_cast<__half2 *>(&x);
}

DEVICE uint32_t shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

// Loads from shared memory that the compiler may move, though not past a barrier.
template <typename T> DEVICE T load_shared(uint32_t at)
{
	return *static_cast<const T *>(__cvta_shared_to_generic(at));
}

DEVICE uint4 load16(uint32_t at)
{
	return load_shared<uint4>(at);
}

DEVICE uint2 load8(uint32_t at)
{
	return load_shared<uint2>(at);
}

DEVICE uint32_t load4(uint32_t at)
{
	return load_shared<uint32_t>(at);
}

DEVICE void store4(uint32_t at, uint32_t x)
{
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(x) : "memory");
}

// Read once, and before whatever is asked for later.
DEVICE uint64_t load_word(const uint64_t *from)
{
	uint64_t x;
	asm volatile("ld.global.L1::no_allocate.u64 %0, [%1];" : "=l"(x) : "l"(from));
	return x;
}

// On its way to the L2 cache; what the kernel before this one writes there until then is seen all the same.
DEVICE void prefetch(const void *from)
{
	asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// The kernel before this one on the stream has ended and its writes are there.
DEVICE void wait_for_predecessor()
{
#if HAS_BULK
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The kernel after this one may begin.
DEVICE void let_successor_begin()
{
#if HAS_BULK
	asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// A barrier of a block by number, for `threads` of it. 0 is that of __syncthreads.
#define BARRIER_TEAM 1u

DEVICE void barrier_meet(uint32_t barrier, uint32_t threads)
{
	asm volatile("barrier.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// A barrier in shared memory, at which `threads` arrive and which others wait for. Every lane arrives, so that racecheck can
// follow it.
DEVICE void signal_init(uint32_t at, uint32_t threads)
{
	asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(threads) : "memory");
}

DEVICE void signal_arrive(uint32_t at)
{
	asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(at) : "memory");
}

DEVICE void signal_wait(uint32_t at, uint32_t parity)
{
	asm volatile("{\n.reg .pred done;\nagain:\n"
		     "mbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
		     "@!done bra again;\n}" ::"r"(at),
		     "r"(parity)
		     : "memory");
}

// What this thread knows to be written is there for other blocks before whatever it writes next.
DEVICE void publish_writes()
{
	asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// Add to what other blocks add to; what they published before is there then.
DEVICE uint32_t add_and_see(uint32_t *to, uint32_t x)
{
	uint32_t before;
	asm volatile("atom.acquire.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(x) : "memory");
	return before;
}

DEVICE void store_if(float *to, float x, bool wanted)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %2, 0;\n@p st.global.f32 [%0], %1;\n}" ::"l"(to), "f"(x), "r"((uint32_t)wanted)
		     : "memory");
}

// 1 / x of a power of two.
DEVICE float power_of_two_inverse(float x)
{
	return __uint_as_float((254u << 23) - __float_as_uint(x));
}

DEVICE float load_half(uint32_t at)
{
	return __half2float(__ushort_as_half(load_shared<uint16_t>(at)));
}

#if HAS_BULK
DEVICE void barrier_init(uint32_t barrier)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}

DEVICE void barrier_init_visible()
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

DEVICE void barrier_wait(uint32_t barrier, uint32_t parity)
{
	asm volatile("{\n.reg .pred done;\nagain:\n"
		     "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
		     "@!done bra again;\n}" ::"r"(barrier),
		     "r"(parity)
		     : "memory");
}

// The barrier's phase ends when so many bytes have been copied.
DEVICE void barrier_expect(uint32_t barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Copy `bytes`, a multiple of 16, from global memory, after barrier_expect: the copy itself does not arrive.
DEVICE void bulk_copy(uint32_t to, uint64_t from, uint32_t bytes, uint32_t barrier, uint64_t policy)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], "
		     "%4;" ::"r"(to),
		     "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
		     : "memory");
}
#endif

DEVICE void copy16(uint32_t to, uint64_t from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

DEVICE void copy4(uint32_t to, const void *from)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

DEVICE void copy8(uint32_t to, const void *from)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
}

// All copies by threads, of this one.
DEVICE void copies_wait()
{
	asm volatile("cp.async.wait_all;" ::: "memory");
}

DEVICE void copies_close()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

// All but the newest group have arrived.
DEVICE void copies_wait_but_one()
{
	asm volatile("cp.async.wait_group 1;" ::: "memory");
}

#endif
