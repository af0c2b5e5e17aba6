// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// Kind is a kind of built-in server.
type Kind string

// Kinds of built-in servers.
const (
	HTTP   Kind = "http"   // answers what it saw; see Handler
	Echo   Kind = "echo"   // sends back what it receives
	Banner Kind = "banner" // speaks first: a line that says what it saw, then echoes
)

// port is the usual port of the kind, or 0 if there is no such kind.
func (k Kind) port() uint16 {
	switch k {
	case HTTP:
		return 80
	case Echo:
		return 7
	case Banner:
		return 25
	}
	return 0
}

// ServerOptions say how a built-in server behaves.
type ServerOptions struct {
	Kind Kind
	// Instance is the name the server gives as its own.
	Instance string
	// ProxyProtocol makes a PROXY protocol header (v1 or v2) a must on every connection. Its CRC is checked if there is
	// one. The LOCAL command, as health checks have it, counts as a header without addresses.
	ProxyProtocol bool
}

func (r Run) options(instance string) ServerOptions {
	return ServerOptions{Kind: r.Server, Instance: instance, ProxyProtocol: r.ProxyProtocol}
}

// Flags are the options as command line arguments that ServeInherited reads.
func (o ServerOptions) Flags() []string {
	flags := []string{"--server=" + string(o.Kind), "--instance=" + o.Instance}
	if o.ProxyProtocol {
		flags = append(flags, "--proxy-protocol")
	}
	return flags
}

// ServeInherited is the main function of a process that Launch has started for a built-in server: it serves on the
// listener that it was given as descriptor 3, as the flags say, until ctx ends.
func ServeInherited(ctx context.Context, flags []string) error {
	var o ServerOptions
	set := flag.NewFlagSet("serve", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar((*string)(&o.Kind), "server", "", "kind of server")
	set.StringVar(&o.Instance, "instance", "", "name of the instance")
	set.BoolVar(&o.ProxyProtocol, "proxy-protocol", false, "require a PROXY protocol header")
	if err := set.Parse(flags); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	file := os.NewFile(3, "listener")
	listener, err := net.FileListener(file)
	file.Close()
	if err != nil {
		return fmt.Errorf("serve: descriptor 3 is not a listener (isthmus lab up starts this command): %w", err)
	}
	return Serve(ctx, listener, o)
}

// Serve runs a built-in server on listener, which it closes, until ctx ends; then it closes all connections and returns
// nil. It may be called from any namespace: listener and connections are where they were made.
func Serve(ctx context.Context, listener net.Listener, o ServerOptions) error {
	if o.ProxyProtocol {
		listener = requireProxy(listener)
	}
	var err error
	switch o.Kind {
	case HTTP:
		err = serveHTTP(ctx, listener, o)
	case Echo:
		err = serveRaw(ctx, listener, func(c net.Conn) { io.Copy(c, c) })
	case Banner:
		err = serveRaw(ctx, listener, func(c net.Conn) {
			if line, err := banner(c, o); err == nil {
				io.WriteString(c, line)
				io.Copy(c, c)
			}
		})
	default:
		listener.Close()
		err = fmt.Errorf("there is no server %q: choose %s, %s or %s", o.Kind, HTTP, Echo, Banner)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// banner is what a server that speaks first says, in one line. With the PROXY protocol it waits for the header.
func banner(c net.Conn, o ServerOptions) (string, error) {
	remote, proxy, err := origin(c)
	if err != nil {
		return "", err
	}
	words := []string{"220", o.Instance, "remote=" + remote}
	if proxy != nil {
		words = append(words, "src="+proxy.Source, "dst="+proxy.Destination, "endpoint="+proxy.EndpointID)
	}
	return strings.Join(words, " ") + "\r\n", nil
}

// serveRaw gives every connection to handle, and closes it when that returns.
func serveRaw(ctx context.Context, listener net.Listener, handle func(net.Conn)) error {
	var (
		mu    sync.Mutex
		open  = map[net.Conn]bool{}
		tasks sync.WaitGroup
	)
	defer tasks.Wait()
	stop := context.AfterFunc(ctx, func() {
		listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			c.Close()
		}
	})
	defer stop()
	for {
		c, err := listener.Accept()
		if err != nil {
			listener.Close()
			return err
		}
		mu.Lock()
		open[c] = true
		if ctx.Err() != nil {
			c.Close()
		}
		mu.Unlock()
		tasks.Go(func() {
			handle(c)
			c.Close()
			mu.Lock()
			delete(open, c)
			mu.Unlock()
		})
	}
}

// serveHTTP serves Handler.
func serveHTTP(ctx context.Context, listener net.Listener, o ServerOptions) error {
	server := &http.Server{
		Handler:           Handler(o.Instance),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: time.Hour, // connections are kept idle on purpose
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	return server.Serve(listener)
}
