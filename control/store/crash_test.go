// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	crashPath  = "ISTHMUS_STORE_PATH"
	crashCount = "ISTHMUS_CRASHES"
	crashLog   = 1 << 20 // transactions: the log has all of them
	writers    = 4
)

// crashOps are what writer w writes as its n-th transaction: all its keys get n, a fourth one comes and goes, and every
// fifth transaction is one of many pages.
func crashOps(w, n int) []Op {
	value := binary.AppendUvarint(nil, uint64(n))
	var ops []Op
	for _, name := range []string{"a", "b", "c"} {
		ops = append(ops, Op{Key: fmt.Sprintf("%d/%s", w, name), Value: value})
	}
	ops = append(ops, Op{Key: fmt.Sprintf("%d/odd", w), Value: value, Delete: n%2 == 0})
	if n%5 == 0 {
		for i := range 40 {
			ops = append(ops, Op{Key: fmt.Sprintf("%d/page/%d", w, i), Value: bytes.Repeat(value, 200)})
		}
	}
	return ops
}

// crashChild writes until it is killed. Of each transaction that is acknowledged it says so, in one write to stdout.
func crashChild() int {
	t := childT{}
	s := mustOpen(t, os.Getenv(crashPath), Options{LogSize: crashLog, LockTimeout: 10 * time.Second})
	for w := range writers {
		go func() {
			last := 0
			if e, err := s.Get(background, fmt.Sprintf("%d/a", w)); err == nil {
				n, _ := binary.Uvarint(e.Value)
				last = int(n)
			}
			for n := last + 1; ; n++ {
				fmt.Printf("%d %d %d\n", w, n, mustTxn(t, s, nil, crashOps(w, n)...))
			}
		}()
	}
	select {}
}

// crashes returns how many times to crash.
func crashes(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv(crashCount)); err == nil {
		return n
	}
	switch {
	case testing.Short():
		return 5
	case os.Getenv("CI") == "true":
		return 200
	}
	return 20
}

// ack is one acknowledgement of a child.
type ack struct {
	writer, n int
	revision  Revision
}

// TestCrash kills a process that writes, again and again at a random moment, and looks at what is left: what was
// acknowledged is there, and nothing is there in part. ISTHMUS_CRASHES says how often; ISTHMUS_CRASH_SEED repeats a run.
func TestCrash(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("ISTHMUS_CRASH_SEED"), 10, 64); err == nil {
		seed = given
	}
	random := rand.New(rand.NewPCG(seed, 0))
	dir := fastDir(t) // a kill leaves to the kernel what was written, whatever it is written on
	path, unheard, acknowledged := "", 0, 0
	for i := range crashes(t) {
		if i%10 == 0 {
			path = filepath.Join(dir, fmt.Sprintf("store-%d.db", i))
		}
		acks := crash(t, path, random)
		unheard += checkCrashed(t, path, acks)
		acknowledged += len(acks)
		if t.Failed() {
			t.Fatalf("crash %d of seed %d", i, seed)
		}
	}
	t.Logf("seed %d: %d acknowledged transactions, %d that were there without", seed, acknowledged, unheard)
}

// crash starts a child, kills it after some acknowledgements and a moment, and returns all that it acknowledged.
func crash(t *testing.T, path string, random *rand.Rand) []ack {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=crash", crashPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// One in eight dies while it opens the file, or creates it; the others between two acknowledgements.
	lines, killed := bufio.NewReader(out), make(chan struct{})
	var read []byte
	if random.IntN(8) > 0 {
		for range 1 + random.IntN(20) {
			line, err := lines.ReadBytes('\n')
			if read = append(read, line...); err != nil {
				t.Errorf("the child ended by itself: %v", err)
				break
			}
		}
	}
	time.AfterFunc(time.Duration(random.IntN(10_000))*time.Microsecond, func() {
		_ = cmd.Process.Kill()
		close(killed)
	})
	rest, err := io.ReadAll(lines)
	<-killed
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return parseAcks(t, string(append(read, rest...)))
}

func parseAcks(t *testing.T, text string) []ack {
	t.Helper()
	var acks []ack
	for line := range strings.Lines(text) {
		var a ack
		if n, err := fmt.Sscanf(line, "%d %d %d\n", &a.writer, &a.n, &a.revision); n != 3 || err != nil {
			t.Fatalf("the child says %q", line)
		}
		acks = append(acks, a)
	}
	return acks
}

// checkCrashed opens a store, which compares all its records with each other, and then the log with what was
// acknowledged and with what the writers may have written. It returns how many transactions nobody heard of.
func checkCrashed(t *testing.T, path string, acks []ack) int {
	t.Helper()
	if _, err := os.Stat(path); os.IsNotExist(err) && len(acks) == 0 {
		return 0
	}
	s, err := Open(path, Options{LogSize: crashLog, LockTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	heard := map[Revision]ack{}
	from := ^uint64(0)
	for _, a := range acks {
		heard[a.revision] = a
		from = min(from, a.revision)
	}
	last, unheard := [writers]int{}, 0
	for _, r := range s.(*core).state.log {
		var w int
		if _, err := fmt.Sscanf(r.changes[0].Entry.Key, "%d/", &w); err != nil {
			t.Fatal(err)
		}
		n := last[w] + 1
		last[w] = n
		if a, ok := heard[r.revision]; ok && (a.writer != w || a.n != n) {
			t.Errorf("revision %d is transaction %d of writer %d, acknowledged was %+v", r.revision, n, w, a)
		} else if !ok && r.revision > from {
			unheard++
		}
		delete(heard, r.revision)
		checkWhole(t, r, crashOps(w, n))
	}
	for _, a := range heard {
		t.Errorf("acknowledged, but lost: %+v", a)
	}
	return unheard
}

// checkWhole compares a transaction of the log with the ops that made it.
func checkWhole(t *testing.T, r *record, ops []Op) {
	t.Helper()
	if len(r.changes) != len(ops) {
		t.Errorf("revision %d has %d changes of %d", r.revision, len(r.changes), len(ops))
		return
	}
	for i, c := range r.changes {
		if op := ops[i]; c.Entry.Key != op.Key || c.Deleted != op.Delete || !c.Deleted && !bytes.Equal(c.Entry.Value, op.Value) {
			t.Errorf("revision %d: change %d is of %q, wanted %q", r.revision, i, c.Entry.Key, op.Key)
		}
	}
}
