// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

// reconcilerConfig is what a reconciler works with.
type reconcilerConfig struct {
	file     string // configuration to follow, or ""
	keyFile  string // where the hash key of states without one is kept, or ""
	engine   engine
	attacher *attacher
	applied  func(*vpc.State) // told of every state that the engine has compiled, also when only its ports changed
	log      *slog.Logger
}

// reconciler brings the ports and the engine to the newest state that can be put in force. It is the only one to call
// engine.Apply and the attacher.
type reconciler struct {
	reconcilerConfig
	requests chan request
	ready    chan struct{}
	report   atomic.Pointer[report]

	// Owned by Run.
	state   *vpc.State // in force; nil before the first
	desired uint64     // revision of the newest state, in force or not
	problem error      // why that is not in force
	content []byte     // of the file when it was last read
	key     [16]byte   // for states without one; zero before the first of them
}

// request asks for a state to be put in force.
type request struct {
	state *vpc.State
	done  chan<- error
}

// report is what there is to know about the reconciler's work. It is immutable.
type report struct {
	state   *vpc.State
	desired uint64
	problem string
	ports   []portReport // in the order of the state
}

// portReport describes one port of the state in force.
type portReport struct {
	spec     *vpc.Port
	open     bool
	problem  string
	queues   int
	offloads port.Offloads
	warnings []string
}

func newReconciler(cfg reconcilerConfig) *reconciler {
	r := &reconciler{reconcilerConfig: cfg, requests: make(chan request), ready: make(chan struct{})}
	r.report.Store(&report{})
	return r
}

func (r *reconciler) Ready() <-chan struct{} { return r.ready }
func (r *reconciler) String() string         { return "configuration" }

// Run puts the file's state in force and follows it, or follows requests. A file that is wrong at the start is an
// error; one that turns wrong later leaves the state as it is.
func (r *reconciler) Run(ctx context.Context) error {
	w, err := newWatcher(r.file)
	if err != nil {
		return err
	}
	defer w.close()
	if r.file != "" {
		if r.reload(); r.problem != nil {
			return r.problem
		}
	}
	for {
		w.follow(r.state)
		select {
		case <-ctx.Done():
			return nil
		case req := <-r.requests:
			req.done <- r.put(req.state)
			r.publish()
		case e := <-w.events():
			w.sort(e)
		case err := <-w.errors():
			r.log.Warn("watching files failed; changes are found by looking", "error", err)
			w.suspect()
		case <-w.fileChanged():
			r.reload()
		case <-w.portsChanged():
			r.checkPorts(true)
		case <-w.tick.C:
			r.checkPorts(false)
		}
	}
}

// apply has Run put a state in force that has passed Validate.
func (r *reconciler) apply(ctx context.Context, s *vpc.State) error {
	if r.file != "" {
		return fmt.Errorf("this daemon follows %s; change that file", r.file)
	}
	done := make(chan error, 1)
	own := *s
	select {
	case r.requests <- request{&own, done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reload reads the file and puts its state in force, if it has changed and is right.
func (r *reconciler) reload() {
	defer r.publish()
	data, err := readConfig(r.file)
	if err != nil {
		r.fail(err)
		return
	}
	if r.content != nil && bytes.Equal(data, r.content) {
		return
	}
	r.content = data
	s, err := UnmarshalState(filepath.Base(r.file), data)
	if err != nil {
		r.desired++
	} else if err = r.put(s); err != nil {
		r.content = nil // what is wrong may lie outside the file: writing it again is another try
	}
	r.fail(err)
}

// fail remembers why the file is not in force; nil says that it is. The first state's problem is Run's to return.
func (r *reconciler) fail(err error) {
	r.problem = err
	if err != nil && r.state != nil {
		r.log.Error("the configuration is refused; what is in force stays", "error", err)
	}
}

// put opens what a state needs, hands it to the engine and closes what it does not need. The state is the
// reconciler's from here on. On an error everything is as before.
func (r *reconciler) put(s *vpc.State) error {
	if s.Revision == 0 {
		s.Revision = r.desired + 1
	}
	r.desired = s.Revision
	if s.HashKey == [16]byte{} {
		key, err := r.hashKey()
		if err != nil {
			return err
		}
		s.HashKey = key
	}
	now := time.Now()
	a, uses := r.attacher, usesOf(s)
	next, opened, waiting := r.plan(s, uses, now)
	if err := r.tooNarrow(s, uses, next); err != nil {
		a.close(opened...)
		return err
	}
	if err := r.engine.Apply(s, a.openPorts(next)); err != nil {
		a.close(opened...)
		return fmt.Errorf("the dataplane refuses the state: %w", err)
	}
	for id, at := range next {
		if at.used == nil && len(at.use.ways) > 0 {
			at.retryAt = now // other needs may be met
		}
		at.use = uses[id]
	}
	var old []*attachment
	for id, at := range a.ports {
		if next[id] != at {
			old = append(old, at)
		}
	}
	a.ports, r.state = next, s
	a.reroute(s)
	a.close(old...)
	for _, spec := range waiting {
		a.ports[spec.ID] = a.attach(spec, uses[spec.ID], now)
	}
	if len(waiting) > 0 {
		if err := r.engine.Apply(s, a.openPorts(a.ports)); err != nil {
			r.log.Error("the dataplane refuses ports", "error", err)
		}
	}
	r.log.Info("state in force", "revision", s.Revision, "endpoints", len(s.Endpoints), "ports", len(s.Ports))
	r.settle()
	return nil
}

// plan finds the attachments of a state: ports that stay, and those that it opens. Ports whose device has the name of
// one that has to be closed before wait for that.
func (r *reconciler) plan(s *vpc.State, uses map[string]portUse, now time.Time) (next map[string]*attachment, opened []*attachment, waiting []*vpc.Port) {
	type place struct{ netns, device string }
	next = make(map[string]*attachment, len(s.Ports))
	taken := map[place]bool{}
	for _, at := range r.attacher.ports {
		taken[place{at.spec.Netns, at.spec.Device}] = at.used != nil
	}
	for i := range s.Ports {
		spec := &s.Ports[i]
		if old := r.attacher.ports[spec.ID]; old != nil && old.serves(spec, uses[spec.ID]) {
			next[spec.ID] = old
		} else if taken[place{spec.Netns, spec.Device}] {
			waiting = append(waiting, spec)
		} else {
			at := r.attacher.attach(spec, uses[spec.ID], now)
			next[spec.ID] = at
			opened = append(opened, at)
		}
	}
	return next, opened, waiting
}

// tooNarrow says what around a port of the state carries less than its gateway load balancers send. A port that waits for
// another to close is looked at where it need not be open for that, on a TAP; on a TUN it is when it opens.
func (r *reconciler) tooNarrow(s *vpc.State, uses map[string]portUse, next map[string]*attachment) error {
	for i := range s.Ports {
		spec := &s.Ports[i]
		at, ways := next[spec.ID], uses[spec.ID].ways
		var err error
		switch {
		case len(ways) == 0, at == nil && spec.Kind == vpc.TUN:
			continue
		case at != nil && at != r.attacher.ports[spec.ID]: // has just been opened, or not because of this
			if narrow := (*narrowError)(nil); errors.As(at.err, &narrow) {
				err = narrow
			}
		default:
			err = r.attacher.from.narrow(spec, ways)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkPorts closes ports whose namespace or device is gone, and tries to open those that are not: all of them in a
// hurry, otherwise those whose time has come.
func (r *reconciler) checkPorts(hurry bool) {
	a, now := r.attacher, time.Now()
	var closing []port.Port
	tried, opened := false, false
	for _, at := range a.ports {
		if at.used != nil {
			if why := a.lost(at); why != nil {
				closing = append(closing, a.detach(at, why, now))
			}
		}
		if at.used == nil && (hurry || !now.Before(at.retryAt)) {
			if hurry { // the file of a namespace is there before the namespace is mounted on it: look again soon
				at.wait = 0
			}
			a.try(at, now)
			tried, opened = true, opened || at.used != nil
		}
	}
	if a.look(now) || tried || len(closing) > 0 {
		defer r.publish()
	}
	if len(closing) == 0 && !opened {
		return
	}
	if err := r.engine.Apply(r.state, a.openPorts(a.ports)); err != nil {
		r.log.Error("the dataplane refuses ports", "error", err)
	}
	a.closePorts(closing)
	r.settle()
}

// settle does what follows every change of the engine's view.
func (r *reconciler) settle() {
	r.attacher.setAddresses(r.state)
	r.attacher.steer(r.state)
	r.attacher.look(time.Now())
	r.applied(r.state)
}

// publish makes a new report. The first with a state is when the task is ready.
func (r *reconciler) publish() {
	rep := &report{state: r.state, desired: r.desired}
	if r.problem != nil {
		rep.problem = r.problem.Error()
	}
	if r.state != nil {
		for i := range r.state.Ports {
			p := portReport{spec: &r.state.Ports[i]}
			if at := r.attacher.ports[p.spec.ID]; at != nil {
				if at.err != nil {
					p.problem = at.err.Error()
				}
				if at.used != nil {
					p.open, p.queues, p.offloads, p.warnings = true, at.port.Queues(), at.offloads, at.warnings
				}
			}
			rep.ports = append(rep.ports, p)
		}
	}
	r.report.Store(rep)
	select {
	case <-r.ready:
	default:
		if r.state != nil {
			close(r.ready)
		}
	}
}
