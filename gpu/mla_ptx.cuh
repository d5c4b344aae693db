// Hopper's warpgroup instructions and barriers, as latent attention uses them.
#ifndef GPU_MLA_PTX_CUH
#define GPU_MLA_PTX_CUH

#include "gpu/attend_ptx.cuh"

// Descriptors of matrices in shared memory (PTX ISA, "Matrix Descriptor"): `leading` and `stride` in bytes.
#define SWIZZLE_128 1ull
#define SWIZZLE_32  3ull

DEVICE uint64_t matrix(uint32_t at, uint32_t leading, uint32_t stride, uint64_t swizzle)
{
	return (at & 0x3ffff) >> 4 | (uint64_t)(leading >> 4) << 16 | (uint64_t)(stride >> 4) << 32 | swizzle << 62;
}

// Registers of a warpgroup's products may have been written since.
DEVICE void products_begin()
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEVICE void products_close()
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// All but the newest `n` groups are done.
template <int n> DEVICE void products_wait()
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

// The products' results are read after this point, not before.
template <int n> DEVICE void results(float (&x)[n])
{
#pragma unroll
	for (int i = 0; i < n; i++)
		asm volatile("" : "+f"(x[i])::"memory");
}

// What this thread wrote to shared memory is seen by the matrix units and the copy engine.
DEVICE void publish()
{
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void barrier_init_count(uint32_t barrier, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

DEVICE void barrier_arrive(uint32_t barrier)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

DEVICE bool barrier_passed(uint32_t barrier, uint32_t parity)
{
	uint32_t done;
	asm volatile("{\n.reg .pred done;\nmbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\nselp.u32 %0, 1, 0, done;\n}"
		     : "=r"(done)
		     : "r"(barrier), "r"(parity)
		     : "memory");
	return done;
}

// Four 8x8 matrices of 16-bit values; each lane has the address of a row.
DEVICE void store_matrices(uint32_t at, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(a), "r"(b), "r"(c), "r"(d)
		     : "memory");
}

// Registers of each thread of a warpgroup that began with 128: what is more comes out of what others give back.
template <int n> DEVICE void set_registers()
{
	if constexpr (n >= 128)
		asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
	else
		asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}

template <uint32_t threads> DEVICE void meet(uint32_t barrier)
{
	asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(threads) : "memory");
}

DEVICE void store4(uint32_t at, float x)
{
	asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(x) : "memory");
}

DEVICE float load_float(uint32_t at)
{
	return __uint_as_float(load4(at));
}

DEVICE void store_byte(uint32_t at, uint32_t x)
{
	asm volatile("st.shared.u8 [%0], %1;" ::"r"(at), "r"(x) : "memory");
}

DEVICE void store_word(uint32_t at, uint32_t x)
{
	asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(x) : "memory");
}

// o += p · v, 64x128x16: p 64 rows of 16, v 16 rows of 128 as they lie, a row a token. `more`: 0 to begin anew.
DEVICE void weigh(float (&o)[64], uint64_t p, uint64_t v, int more)
{
	asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %66, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
		     "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
		     "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"
		     "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
		     "}, %64, %65, more, 1, 1, 0, 1;\n}"
		     : "+f"(o[0]), "+f"(o[1]), "+f"(o[2]), "+f"(o[3]), "+f"(o[4]), "+f"(o[5]), "+f"(o[6]), "+f"(o[7]),
		       "+f"(o[8]), "+f"(o[9]), "+f"(o[10]), "+f"(o[11]), "+f"(o[12]), "+f"(o[13]), "+f"(o[14]), "+f"(o[15]),
		       "+f"(o[16]), "+f"(o[17]), "+f"(o[18]), "+f"(o[19]), "+f"(o[20]), "+f"(o[21]), "+f"(o[22]),
		       "+f"(o[23]), "+f"(o[24]), "+f"(o[25]), "+f"(o[26]), "+f"(o[27]), "+f"(o[28]), "+f"(o[29]),
		       "+f"(o[30]), "+f"(o[31]), "+f"(o[32]), "+f"(o[33]), "+f"(o[34]), "+f"(o[35]), "+f"(o[36]),
		       "+f"(o[37]), "+f"(o[38]), "+f"(o[39]), "+f"(o[40]), "+f"(o[41]), "+f"(o[42]), "+f"(o[43]),
		       "+f"(o[44]), "+f"(o[45]), "+f"(o[46]), "+f"(o[47]), "+f"(o[48]), "+f"(o[49]), "+f"(o[50]),
		       "+f"(o[51]), "+f"(o[52]), "+f"(o[53]), "+f"(o[54]), "+f"(o[55]), "+f"(o[56]), "+f"(o[57]),
		       "+f"(o[58]), "+f"(o[59]), "+f"(o[60]), "+f"(o[61]), "+f"(o[62]), "+f"(o[63])
		     : "l"(p), "l"(v), "r"(more));
}

// s += q · k, 64x48x16: q 64 heads from registers or shared memory, k 48 tokens.
DEVICE void score_registers(float (&s)[24], const uint32_t (&q)[4], uint64_t k, int more)
{
	asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %29, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 {"
		     "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,"
		     "%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
		     "}, {%24,%25,%26,%27}, %28, more, 1, 1, 0;\n}"
		     : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]),
		       "+f"(s[6]), "+f"(s[7]), "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]),
		       "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15]), "+f"(s[16]), "+f"(s[17]),
		       "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
		     : "r"(q[0]), "r"(q[1]), "r"(q[2]), "r"(q[3]), "l"(k), "r"(more));
}

DEVICE void score_shared(float (&s)[24], uint64_t q, uint64_t k, int more)
{
	asm volatile("{\n.reg .pred more;\nsetp.ne.b32 more, %26, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n48k16.f32.f16.f16 {"
		     "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,"
		     "%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23"
		     "}, %24, %25, more, 1, 1, 0, 0;\n}"
		     : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]),
		       "+f"(s[6]), "+f"(s[7]), "+f"(s[8]), "+f"(s[9]), "+f"(s[10]), "+f"(s[11]),
		       "+f"(s[12]), "+f"(s[13]), "+f"(s[14]), "+f"(s[15]), "+f"(s[16]), "+f"(s[17]),
		       "+f"(s[18]), "+f"(s[19]), "+f"(s[20]), "+f"(s[21]), "+f"(s[22]), "+f"(s[23])
		     : "l"(q), "l"(k), "r"(more));
}

#endif
