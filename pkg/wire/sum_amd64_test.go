// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"testing"
)

// TestSumWithoutVectors runs the tests of Sum as on a processor without AVX2.
func TestSumWithoutVectors(t *testing.T) {
	if !hasAVX2 {
		t.Skip("this processor has no AVX2: the other tests run without it")
	}
	hasAVX2 = false
	defer func() { hasAVX2 = true }()
	TestSumEveryLength(t)
	TestSumAlignments(t)
	TestSumLargest(t)
}

// TestSumVectorsTakesWords checks what the vectors leave for the words: all of what is short, the last bytes of the rest.
func TestSumVectorsTakesWords(t *testing.T) {
	if !hasAVX2 {
		t.Skip("this processor has no AVX2")
	}
	for n := range 1000 {
		want := n
		if n >= vectorMin {
			want = n % 32
		}
		if _, rest := sumVectors(make([]byte, n)); len(rest) != want {
			t.Errorf("%d of %d bytes are left, want %d", len(rest), n, want)
		}
	}
}

// BenchmarkSumVectors compares the two ways of Sum. The figures are beside vectorMin.
func BenchmarkSumVectors(b *testing.B) {
	if !hasAVX2 {
		b.Skip("this processor has no AVX2")
	}
	defer func() { hasAVX2 = true }()
	for _, n := range []int{256, 512, 1460, 8460, 65000} {
		for _, vectors := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/%v", n, vectors), func(b *testing.B) {
				hasAVX2 = vectors
				data := make([]byte, n)
				b.SetBytes(int64(n))
				var sum uint32
				for b.Loop() {
					sum = Sum(data, sum&0xffff)
				}
			})
		}
	}
}
