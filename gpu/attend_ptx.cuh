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

// Whatever a register holds.
DEVICE uint32_t any_bits()
{
	uint32_t x;
	asm("" : "=r"(x));
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

DEVICE void store8(uint32_t at, uint32_t x, uint32_t y)
{
	asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(at), "r"(x), "r"(y) : "memory");
}

// Two words, once the sign of the first one is not that of `other`.
DEVICE uint2 wait_for_sign(uint32_t at, uint32_t other)
{
	uint2 x;
	asm volatile("{\n.reg .pred same;\n.reg .b32 y;\nagain:\n"
		     "ld.volatile.shared.v2.u32 {%0, %1}, [%2];\n"
		     "xor.b32 y, %0, %3;\n"
		     "setp.ge.s32 same, y, 0;\n"
		     "@same bra again;\n}"
		     : "=&r"(x.x), "=&r"(x.y)
		     : "r"(at), "r"(other)
		     : "memory");
	return x;
}

// By lane 0: the number at `at`, which becomes one more. An increment with a limit, as lanes that add would be made to do so
// together, in a dozen instructions.
DEVICE uint32_t claim(uint32_t at, uint32_t lane)
{
	uint32_t x;
	asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, %2, 0;\n@p atom.shared.inc.u32 %0, [%1], 0xfffffffe;\n}"
		     : "=r"(x)
		     : "r"(at), "r"(lane)
		     : "memory");
	return x;
}

// Read once, and before whatever is asked for later.
DEVICE uint64_t load_word(const uint64_t *from)
{
	uint64_t x;
	asm volatile("ld.global.L1::no_allocate.u64 %0, [%1];" : "=l"(x) : "l"(from));
	return x;
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

// What this thread has written or knows to be written comes before what it writes next, and what it reads next after what
// it has read, for all blocks.
DEVICE void order_memory()
{
	asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// Memory that other blocks read and write meanwhile: each word is that of one moment.
DEVICE void store_relaxed(float4 *to, const float4 &x)
{
	asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
		     : "memory");
}

DEVICE void store_relaxed(float2 *to, const float2 &x)
{
	asm volatile("st.relaxed.gpu.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(x.x), "f"(x.y) : "memory");
}

DEVICE float4 load_relaxed(const float4 *from)
{
	float4 x;
	asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
		     : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
		     : "l"(from)
		     : "memory");
	return x;
}

DEVICE float2 load_relaxed(const float2 *from)
{
	float2 x;
	asm volatile("ld.relaxed.gpu.global.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "l"(from) : "memory");
	return x;
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

// The same, for what is to stay in the L2 cache.
DEVICE void bulk_copy_kept(uint32_t to, uint64_t from, uint32_t bytes, uint32_t barrier)
{
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
		     "l"(from), "r"(bytes), "r"(barrier)
		     : "memory");
}

// On its way to the L2 cache; what the kernel before this one writes there until then is seen all the same.
DEVICE void bulk_prefetch(const void *from, uint32_t bytes)
{
	asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
}
#endif

DEVICE void copy16(uint32_t to, uint64_t from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
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
