// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
)

// Run starts the workers, each on a thread of its own, and returns when ctx has ended and they have stopped, or when one
// could not start. It is called at most once.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.start(); err != nil {
		return err
	}
	defer makeRoom(len(e.workers))()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.wakeAll()
	})
	defer stop()

	errs := make([]error, len(e.workers))
	var wg sync.WaitGroup
	for i, w := range e.workers {
		wg.Go(func() {
			errs[i] = w.run(ctx, e.cfg)
			cancel() // one that fails ends the others
		})
	}
	wg.Wait()
	return errors.Join(append(errs, e.stop())...)
}

// room guards the number of the runtime's processors.
var room sync.Mutex

// makeRoom adds runtime processors for workers, and returns what takes them away again. An awake worker keeps one busy, and
// where there is none left the rest of the process, such as the API, waits for workers to be preempted, and they for it:
// both for many milliseconds. With one for each it is the kernel that divides the machine's processors, by priority.
func makeRoom(workers int) (undo func()) {
	add := func(n int) {
		room.Lock()
		defer room.Unlock()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	}
	add(workers)
	return func() { add(-workers) }
}

// start gives the workers their pollers; from then on their state is theirs alone.
func (e *Engine) start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range e.workers {
		p, err := port.NewPoller()
		if err != nil {
			return errors.Join(fmt.Errorf("worker %d: %w", w.id, err), e.closePollers())
		}
		w.poller = p
		w.adopt(e.view.Load())
	}
	e.running = true
	return nil
}

// stop takes the pollers away again when the workers have ended, and does what was still asked of them.
func (e *Engine) stop() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = false
	for _, w := range e.workers {
		w.drainTasks()
	}
	return e.closePollers()
}

func (e *Engine) closePollers() error {
	var errs []error
	for _, w := range e.workers {
		if w.poller != nil {
			errs = append(errs, w.poller.Close())
			w.poller = nil
		}
	}
	return errors.Join(errs...)
}

// wakeAll ends the sleep of all workers. The caller holds mu.
func (e *Engine) wakeAll() {
	for _, w := range e.workers {
		w.wake()
	}
}

// run takes turns until ctx ends. The thread is the worker's: it is not given back, but ends with its goroutine.
func (w *worker) run(ctx context.Context, cfg Config) error {
	runtime.LockOSThread()
	port.RaiseThread()
	if cfg.Pin {
		if err := port.PinThread(w.id); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
	var tokens [batchSize]uint32
	var lastBusy time.Duration
	for ctx.Err() == nil {
		now := cfg.Clock()
		wait := time.Duration(0)
		if now-lastBusy >= cfg.Spin {
			wait = w.patience()
			w.total.live[totalSleeps]++
		}
		n := w.poller.Wait(wait, tokens[:])
		now = cfg.Clock()
		if w.turn(now, tokens[:n]) {
			lastBusy = now
		}
		w.drainTasks()
		w.publish()
	}
	return nil
}

// ask has the worker do something between two turns.
func (w *worker) ask(f func()) {
	w.mu.Lock()
	w.tasks = append(w.tasks, f)
	w.mu.Unlock()
	w.asked.Store(true)
	w.wake()
}

// drainTasks does what other goroutines have asked of the worker.
func (w *worker) drainTasks() {
	if !w.asked.Load() {
		return
	}
	w.asked.Store(false)
	w.mu.Lock()
	tasks := w.tasks
	w.tasks = nil
	w.mu.Unlock()
	for _, f := range tasks {
		f()
	}
}

// do has each worker do something between two turns and waits for all of them. Where the workers are not running it is
// done at once, by the caller.
func (e *Engine) do(ctx context.Context, f func(*worker)) error {
	e.mu.Lock() // against stop, which does what has been asked before it
	if !e.running {
		defer e.mu.Unlock()
		for _, w := range e.workers {
			f(w)
		}
		return nil
	}
	done := make(chan struct{}, len(e.workers))
	for _, w := range e.workers {
		w.ask(func() { f(w); done <- struct{}{} })
	}
	e.mu.Unlock()
	for range e.workers {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
