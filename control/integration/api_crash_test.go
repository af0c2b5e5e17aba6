// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/netns/netnstest"
)

// crashWriters is how many clients write at the same time.
const crashWriters = 4

// apiCrashes is how many times to crash. ISTHMUS_CRASHES says it for the store's test too, as `make crash` does; the race
// detector makes each crash four times as long, and finds nothing more in it.
func apiCrashes(t testing.TB) int {
	if n, err := strconv.Atoi(os.Getenv("ISTHMUS_CRASHES")); err == nil {
		return n
	}
	return load(3, 10, 200)
}

// TestAPICrash kills a daemon with SIGKILL while clients write to it, starts it again on the same store, and compares what
// is there with what each client knows: all that was acknowledged, of the request that was not the whole or nothing, and
// nothing twice when a request is repeated. ISTHMUS_CRASH_SEED repeats a run, as far as a race of processes can be.
func TestAPICrash(t *testing.T) {
	netnstest.RequirePrivileged(t)
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("ISTHMUS_CRASH_SEED"), 10, 64); err == nil {
		seed = given
	}
	c := &crashTest{TB: t, random: rand.New(rand.NewPCG(seed, 1)), dir: memoryDir(t), uids: map[string]string{}}
	for w := range crashWriters {
		c.writers = append(c.writers, newCrashWriter(w, rand.New(rand.NewPCG(seed, uint64(2+w)))))
	}
	for n := range apiCrashes(t) {
		c.round()
		if t.Failed() {
			t.Fatalf("crash %d of seed %d", n, seed)
		}
	}
	c.last()
	t.Logf("seed %d: %d requests acknowledged; of %d that were not, %d had been done", seed, c.acknowledged.Load(), c.unheard, c.done)
}

// memoryDir is a directory in memory, where there is such a place: a kill leaves to the kernel what was written, whatever it
// is written on.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "isthmus-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// crashTest is a store that one daemon after another has.
type crashTest struct {
	testing.TB
	random  *rand.Rand
	dir     string
	writers []*crashWriter
	uids    map[string]string // of every resource that was ever seen, by name and birth

	acknowledged  atomic.Int64
	unheard, done int
}

// childProcess is a daemon in a process of its own.
type childProcess struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	client *apiClient
}

// start starts the daemon. It may not have begun to listen when start returns.
func (c *crashTest) start() *childProcess {
	c.Helper()
	p := &childProcess{cmd: exec.Command(os.Args[0])}
	socket := filepath.Join(c.dir, "isthmus.sock")
	p.cmd.Env = append(os.Environ(), childStore+"="+filepath.Join(c.dir, "store.db"), childSocket+"="+socket, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = &p.stderr
	if err := p.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	var err error
	if p.client, err = dialAPI(c.Context(), socket); err != nil {
		c.Fatal(err)
	}
	return p
}

// kill ends the daemon as nothing can prepare for.
func (c *crashTest) kill(p *childProcess) {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if said := p.stderr.String(); said != "" {
		c.Errorf("the daemon said: %s", said)
	}
}

// await waits until the daemon answers: it has to come up by itself, whatever it was killed at.
func (c *crashTest) await(p *childProcess) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	for {
		p.client.conn.Connect()
		if _, err := p.client.WhoAmI(ctx, &apiv1.WhoAmIRequest{}); err == nil {
			return
		} else if status.Code(err) != codes.Unavailable {
			c.kill(p)
			c.Fatalf("the daemon does not come up: %v", err)
		}
		p.client.conn.ResetConnectBackoff()
		for p.client.conn.GetState() == connectivity.Connecting && p.client.conn.WaitForStateChange(ctx, connectivity.Connecting) {
		}
		time.Sleep(2 * time.Millisecond) // between two looks at a socket that nothing tells of
	}
}

// round starts a daemon, looks at what an earlier one has left, and kills it while it is written to; one in eight while it
// starts.
func (c *crashTest) round() {
	c.Helper()
	p := c.start()
	defer p.client.conn.Close()
	if c.random.IntN(8) == 0 {
		time.Sleep(time.Duration(c.random.IntN(60)) * time.Millisecond)
		c.kill(p)
		return
	}
	c.await(p)
	c.examine(p.client)
	if c.Failed() {
		c.kill(p)
		return
	}
	// Killed a moment after some acknowledgements, so that every part of a request is hit.
	enough, done := make(chan struct{}), make(chan struct{})
	left := int64(1 + c.random.IntN(60))
	var all sync.WaitGroup
	for _, w := range c.writers {
		all.Go(func() {
			err := w.write(c.Context(), p.client, func() {
				c.acknowledged.Add(1)
				if atomic.AddInt64(&left, -1) == 0 {
					close(enough)
				}
			})
			if status.Code(err) != codes.Unavailable && !errors.Is(err, io.EOF) {
				c.Errorf("writer %d: %v", w.number, err)
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	select {
	case <-enough:
	case <-done:
	}
	time.Sleep(time.Duration(c.random.IntN(5000)) * time.Microsecond)
	c.kill(p)
	<-done
}

// last looks at what the last crash has left.
func (c *crashTest) last() {
	p := c.start()
	defer p.client.conn.Close()
	c.await(p)
	c.examine(p.client)
	c.kill(p)
}

// examine compares what is there with what the writers know, and then repeats requests.
func (c *crashTest) examine(client *apiClient) {
	c.Helper()
	there := c.export(client)
	for _, w := range c.writers {
		if w.pending == nil {
			c.compare("what was acknowledged", there[w.number], w.known)
			continue
		}
		c.unheard++
		after := w.pending.after(maps.Clone(w.known))
		if !maps.Equal(there[w.number], w.known) {
			c.done++
			c.compare("all or nothing of what was not acknowledged", there[w.number], after)
		}
	}
	for _, w := range c.writers {
		if err := w.repeat(c.Context(), client); err != nil {
			c.Errorf("writer %d repeats a request: %v", w.number, err)
		}
	}
	there = c.export(client)
	for _, w := range c.writers {
		c.compare("one effect of requests that were repeated", there[w.number], w.known)
	}
}

func (c *crashTest) compare(what string, got, want map[string]string) {
	c.Helper()
	if maps.Equal(got, want) {
		return
	}
	c.Errorf("there is not %s:", what)
	names := slices.Collect(maps.Keys(want))
	for name := range got {
		if _, both := want[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if got[name] != want[name] {
			c.Errorf("\t%s is %q, want %q", name, got[name], want[name])
		}
	}
}
