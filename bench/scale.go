// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// calm is how long a daemon is left alone before it counts as idle: what it has to do after a change is done by then.
const calm = time.Second

// aloneEndpoints is how many of the endpoints of scale-alone have a device of their own.
const aloneEndpoints = 100

// scaleOf measures what the large fleet costs, some endpoints of which have a device of their own: the time to apply it, and
// memory and processor time when nothing passes.
func scaleOf(alone int) func(context.Context, *bed) ([]value, error) {
	return func(ctx context.Context, b *bed) ([]value, error) {
		f := large
		f.Alone = alone
		d, err := b.drive(ctx, f, false)
		if err != nil {
			return nil, err
		}
		defer d.close()
		if err := pause(ctx, calm); err != nil {
			return nil, err
		}
		before, err := d.memory()
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		if err := d.apply(ctx); err != nil {
			return nil, err
		}
		took := time.Since(begun)
		if err := pause(ctx, calm); err != nil {
			return nil, err
		}
		after, err := d.memory()
		if err != nil {
			return nil, err
		}
		idle, err := d.idle(ctx)
		each := 1024 * float64(f.Endpoints)
		return []value{
			{"apply-time", "s", took.Seconds()},
			{"memory-per-endpoint", "KiB", (after.process - before.process) / each},
			{"kernel-memory-per-endpoint", kernelUnit, (after.kernel - before.kernel) / each},
			{"idle-cpu", idleUnit, 100 * idle},
		}, err
	}
}

// Units of what may be next to nothing.
const (
	kernelUnit = "KiB, machine"
	idleUnit   = "% of a processor"
)

// idle is how much of a processor the daemon uses when nothing passes.
func (d *driven) idle(ctx context.Context) (float64, error) {
	before, err := d.dataplane.cpu()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := pause(ctx, d.cfg.Duration); err != nil {
		return 0, err
	}
	after, err := d.dataplane.cpu()
	return (after - before).Seconds() / time.Since(begun).Seconds(), err
}

// memory is in bytes.
type memory struct {
	process float64 // resident, of the daemon
	kernel  float64 // the kernel's own, of the whole machine: others use it too
}

func (d *driven) memory() (m memory, err error) {
	status, err := fields(fmt.Sprintf("/proc/%d/status", d.dataplane.PID))
	if err != nil {
		return m, err
	}
	machine, err := fields("/proc/meminfo")
	if err != nil {
		return m, err
	}
	m.process = status["VmRSS"]
	for _, name := range []string{"SUnreclaim", "KernelStack", "PageTables", "VmallocUsed", "Percpu"} {
		m.kernel += machine[name]
	}
	return m, nil
}

// fields reads those lines of a file of proc(5) that give a size in kB, in bytes.
func fields(path string) (map[string]float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read memory sizes: %w", err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if number, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil {
				out[name] = 1024 * n
			}
		}
	}
	return out, nil
}
