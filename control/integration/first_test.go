// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/vpc"
)

const bannerPort = 8025

// firstACK is a service whose server speaks first.
var firstACK = service{bannerPort, vpc.ProxyProtocol{Enabled: true, Placement: vpc.FirstACK}}

// TestServerSpeaksFirst connects to a server that says who the client is before the client has said anything.
func TestServerSpeaksFirst(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBed(t, options{services: []service{firstACK}, off: m.off})
			b.greeter()
			before, stats := b.counters(), b.daemon.Stats()
			for range 20 {
				if err := b.greet(); err != nil {
					t.Fatal(err)
				}
			}
			b.quiet()
			b.unmoved(before, corrupt...)
			b.unmoved(before, outOfWindow...)
			if drops := b.drops(stats); len(drops) > 0 {
				t.Errorf("the dataplane dropped %v", drops)
			}
		})
	}
}

// TestServerSpeaksFirstUnderLoss loses all kinds of segments, and headers more often: nobody but the dataplane repeats
// those, for the client has not sent them.
func TestServerSpeaksFirstUnderLoss(t *testing.T) {
	w := &wires{t: t, loss: 0.015, headers: &headerLoss{}}
	b := newBed(t, options{services: []service{firstACK}, wrap: w.wrap})
	b.greeter()
	before := b.counters()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for range load(1, 5, 50) {
				if err := b.greet(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.quiet()
	b.unmoved(before, corrupt...)
	w.report()
}

// greeter starts a server that waits for the PROXY protocol header and then speaks first.
func (b *bed) greeter() {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done, listener := make(chan error, 1), b.listen(bannerPort)
	go func() { done <- lab.Serve(ctx, listener, lab.ServerOptions{Kind: lab.Banner, ProxyProtocol: true}) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// greet reads the banner, then has the server echo what the client says.
func (b *bed) greet() error {
	c, err := b.tryDial(b.Context(), bannerPort, b.client)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("no banner: %w", err)
	}
	for _, want := range []string{"src=" + c.LocalAddr().String(), "dst=" + endpoint(bannerPort), "endpoint=" + endpointID} {
		if !strings.Contains(line, want) {
			return fmt.Errorf("banner %q without %s", line, want)
		}
	}
	if err := echo(c, r, "hello\n"); err != nil {
		return err
	}
	c.CloseWrite()
	if n, err := io.Copy(io.Discard, r); n != 0 || err != nil {
		return fmt.Errorf("%d bytes and %v behind the echo", n, err)
	}
	return nil
}

// echo sends a text and waits for it to come back.
func echo(c net.Conn, r io.Reader, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil {
		return fmt.Errorf("no echo: %w", err)
	}
	if string(got) != text {
		return fmt.Errorf("echo of %q is %q", text, got)
	}
	return nil
}
