// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// warmUp is how long the load flows before the window opens: slow start and the first timers are over by then.
	warmUp = 300 * time.Millisecond
	// settle is how long the kernel has to take down the namespaces of one round before the next begins.
	settle = 200 * time.Millisecond
)

// round builds a system, runs the scenario's load through it once, and takes all down again. Any error of client or
// server, and any of the system, is the round's.
func round(
	ctx context.Context, self []string, cfg Config, sys *system, sc *scenario,
) (values []value, offloads string, err error) {
	load := sc.load
	load.Header = load.Header && sys.header
	b, err := newBed(self, cfg, load)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		err = errors.Join(err, b.close())
		for _, p := range []*process{b.dataplane, b.appliance} {
			if err == nil || p == nil {
				continue
			}
			if said := strings.TrimSpace(p.stderr.String()); said != "" {
				err = fmt.Errorf("%w (%s)", err, said)
			}
		}
	}()
	if err := sys.builder(sc)(ctx, b); err != nil {
		return nil, "", err
	}
	if sc.driven != nil {
		values, err = sc.driven(ctx, b)
		return values, "", err
	}
	if b.dataplane != nil {
		offloads = b.dataplane.Offloads
	}
	w, err := b.measure(ctx, sc)
	if err != nil {
		return nil, offloads, err
	}
	return sc.values(w), offloads, nil
}

// measure starts server and client, lets the load warm up, and reads all counters at both ends of a window.
func (b *bed) measure(ctx context.Context, sc *scenario) (w window, err error) {
	server, err := startProcess(ctx, b.self, b.server, roleServer, b.load)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	client, err := startProcess(ctx, b.self, b.origin(), roleClient, b.load)
	if err != nil {
		return w, err
	}
	defer func() { err = errors.Join(err, client.stop()) }()

	if err := pause(ctx, warmUp); err != nil {
		return w, err
	}
	before, err := b.read(ctx, client, server)
	if err != nil {
		return w, err
	}
	if err := pause(ctx, b.cfg.Duration); err != nil {
		return w, err
	}
	after, err := b.read(ctx, client, server)
	if err != nil {
		return w, err
	}
	if err := errors.Join(faults("client", after.client), faults("server", after.server)); err != nil {
		return w, err
	}
	return between(before, after, sc.atServer), nil
}

// reading is everything that is read at one end of a window.
type reading struct {
	client, server mark
	dataplane, all time.Duration
}

func (b *bed) read(ctx context.Context, client, server *process) (r reading, err error) {
	if r.client, err = client.mark(ctx); err != nil {
		return r, err
	}
	if r.server, err = server.mark(ctx); err != nil {
		return r, err
	}
	for _, p := range []*process{client, server, b.dataplane, b.appliance} {
		if p == nil {
			continue
		}
		used, err := p.cpu()
		if err != nil {
			return r, err
		}
		r.all += used
		if p == b.dataplane {
			r.dataplane = used
		}
	}
	return r, nil
}

// between is the difference of two readings. The clock is that of the process whose counters are taken.
func between(before, after reading, atServer bool) window {
	from, to := before.client, after.client
	if atServer {
		from, to = before.server, after.server
	}
	return window{
		elapsed:   to.At - from.At,
		count:     float64(to.Count - from.Count),
		bytes:     float64(to.Bytes - from.Bytes),
		p50:       to.P50,
		p99:       to.P99,
		dataplane: after.dataplane - before.dataplane,
		all:       after.all - before.all,
	}
}

// faults is an error when the process has counted any, the warm-up included.
func faults(who string, m mark) error {
	var errs []error
	for class, n := range m.Errors {
		errs = append(errs, fmt.Errorf("%s had %d times: %s", who, n, class))
	}
	return errors.Join(errs...)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
