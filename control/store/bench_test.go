// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// BenchmarkTxn commits transactions of one key, on the disk of the temporary directory.
func BenchmarkTxn(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := mustOpen(b, filepath.Join(b.TempDir(), "store.db"), Options{})
			defer mustClose(b, s)
			mustTxn(b, s, nil, manyOps(2000, make([]byte, 300))...)
			value := make([]byte, 300)
			work := make(chan int)
			var group sync.WaitGroup
			for range writers {
				group.Go(func() {
					for i := range work {
						mustTxn(b, s, nil, Op{Key: fmt.Sprintf("key/%06d", i%2000), Value: value})
					}
				})
			}
			for i := 0; b.Loop(); i++ {
				work <- i
			}
			close(work)
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
		})
	}
}

// BenchmarkApply commits 10,000 keys in one transaction.
func BenchmarkApply(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "store.db"), Options{})
	defer mustClose(b, s)
	ops := manyOps(10_000, make([]byte, 500))
	for b.Loop() {
		mustTxn(b, s, nil, ops...)
	}
}

// BenchmarkOpen opens a file of about 20 MB, checks included.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "store.db")
	s := mustOpen(b, path, Options{})
	mustTxn(b, s, nil, manyOps(20_000, make([]byte, 400))...)
	mustClose(b, s)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("everything", func(b *testing.B) {
		for b.Loop() {
			mustClose(b, mustOpen(b, path, Options{}))
		}
		b.ReportMetric(float64(info.Size())/1e6, "MB")
	})
	b.Run("pages", func(b *testing.B) {
		for b.Loop() {
			checkFile(b, path)
		}
	})
}

func checkFile(b *testing.B, path string) {
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := checkPages(file); err != nil {
		b.Fatal(err)
	}
}
