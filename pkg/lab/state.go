// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// State is the configuration of the dataplane for the lab that is built in dir: what the topology's resources compile to
// when all endpoints are accepted and none is limited in bandwidth. The hash key is made from the lab's name, so that the
// same lab balances alike each time. The topology is completed first; the state is valid.
func (t *Topology) State(dir string) (*vpc.State, error) {
	if err := t.Complete(); err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	set, err := t.set(dir)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	s, err := set.Compile()
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	s.Testing = t.Testing.Overrides()
	sum := sha256.Sum256([]byte("isthmus lab " + t.Name))
	copy(s.HashKey[:], sum[:])
	return s, nil
}

// set restores the topology's resources, which thereby are checked.
func (t *Topology) set(dir string) (*resource.Set, error) {
	set := resource.NewSet(resource.Config{Region: region, NoLimits: true})
	tx := set.Begin(resource.Env{Actor: resource.Actor{Operator: true}})
	var errs []error
	for _, r := range t.resources(dir) {
		if err := tx.Restore(r); err != nil {
			errs = append(errs, named(r.Metadata().Key, err))
		}
	}
	if len(errs) == 0 {
		for _, err := range unjoin(tx.Check()) {
			var broken *resource.Error
			if errors.As(err, &broken) {
				err = named(broken.Resource, err)
			}
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	set.Commit(tx, 0)
	return set, nil
}

// named says in an error which resource it is about.
func named(k resource.Key, err error) error { return fmt.Errorf("%s %s: %w", k.Kind, k.ID, err) }

// unjoin lists the errors that one joins, none for nil.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// Overrides are the timers as the daemon takes them. Nil gives nil.
func (t *Testing) Overrides() *vpc.Testing {
	if t == nil {
		return nil
	}
	return &vpc.Testing{
		TCPIdle:        time.Duration(t.IdleTimeout),
		HealthInterval: time.Duration(t.HealthCheckInterval),
		HealthTimeout:  time.Duration(t.HealthCheckTimeout),
	}
}
