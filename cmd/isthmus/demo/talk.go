// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/lab"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// call is a connection of an instance.
type call struct {
	*net.TCPConn
	reader *bufio.Reader
	stop   func() bool
}

// dial connects an instance to an address. What is under way on the connection ends with ctx.
func (b *Bed) dial(ctx context.Context, instance string, to netip.AddrPort) (*call, error) {
	return b.dialBy(ctx, netns.Dialer{}, instance, to)
}

// dialBy is dial with settings of the socket.
func (b *Bed) dialBy(ctx context.Context, dialer netns.Dialer, instance string, to netip.AddrPort) (*call, error) {
	dialer.NS = b.spaces[instance]
	conn, err := dialer.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", instance, err)
	}
	c := &call{TCPConn: conn.(*net.TCPConn), reader: bufio.NewReaderSize(conn, 256<<10)}
	c.stop = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return c, nil
}

// Close closes the connection.
func (c *call) Close() error {
	c.stop()
	return c.TCPConn.Close()
}

// local is the client's address.
func (c *call) local() netip.AddrPort { return addrPort(c.LocalAddr()) }

// send makes an HTTP request on the connection and returns the answer, whose body is to be read to its end.
func (c *call) send(method, path string, body io.Reader, length int64) (*http.Response, error) {
	request, err := http.NewRequest(method, "http://"+c.RemoteAddr().String()+path, body)
	if err != nil {
		return nil, err
	}
	request.ContentLength = length
	if err := request.Write(c.TCPConn); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(c.reader, request)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, answer.Status)
	}
	return answer, err
}

// ask asks the HTTP server at the other end what it sees.
func (c *call) ask() (answer lab.Answer, err error) {
	response, err := c.send(http.MethodGet, "/", nil, 0)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(content, &answer)
}

// ask connects, asks what the HTTP server sees, and hangs up. local is the address that the client had.
func (b *Bed) ask(ctx context.Context, instance string, to netip.AddrPort) (answer lab.Answer, local netip.AddrPort, err error) {
	c, err := b.dial(ctx, instance, to)
	if err != nil {
		return answer, local, err
	}
	defer c.Close()
	answer, err = c.ask()
	if err != nil {
		err = fmt.Errorf("%s to %s: %w", instance, to, err)
	}
	return answer, c.local(), err
}

// line is a connection to a server that says its name, then echoes.
type line struct {
	*call
	// greeting is what the server said: its name, what it sees as its remote address, and the PROXY protocol header.
	instance, remote, proxy string
}

// line connects to such a server.
func (b *Bed) line(ctx context.Context, instance string, to netip.AddrPort) (*line, error) {
	return b.lineBy(ctx, netns.Dialer{}, instance, to)
}

// lineBy is line with settings of the socket.
func (b *Bed) lineBy(ctx context.Context, dialer netns.Dialer, instance string, to netip.AddrPort) (*line, error) {
	c, err := b.dialBy(ctx, dialer, instance, to)
	if err != nil {
		return nil, err
	}
	said, err := c.reader.ReadString('\n')
	words := strings.Fields(said)
	if err == nil && len(words) < 3 {
		err = fmt.Errorf("the server said %q", said)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("%s to %s: %w", instance, to, err)
	}
	return &line{
		call: c, instance: words[1], remote: strings.TrimPrefix(words[2], "remote="), proxy: strings.Join(words[3:], " "),
	}, nil
}

// lineTo connects until the server is the one that is wanted.
func (b *Bed) lineTo(ctx context.Context, instance string, to netip.AddrPort, target string) (*line, error) {
	const tries = 200
	for range tries {
		l, err := b.line(ctx, instance, to)
		if err != nil || l.instance == target {
			return l, err
		}
		l.Close()
	}
	return nil, fmt.Errorf("%d connections from %s to %s, and none of them to %s", tries, instance, to, target)
}

// echo says something and hears it again.
func (l *line) echo(text string) error {
	if _, err := io.WriteString(l, text); err != nil {
		return err
	}
	heard := make([]byte, len(text))
	if _, err := io.ReadFull(l.reader, heard); err != nil {
		return err
	}
	if string(heard) != text {
		return fmt.Errorf("said %q, heard %q", text, heard)
	}
	return nil
}

// spread makes n connections to line servers and counts which target each one came to.
func (b *Bed) spread(ctx context.Context, instance string, to netip.AddrPort, n int) (map[string]int, error) {
	count := map[string]int{}
	for range n {
		l, err := b.line(ctx, instance, to)
		if err != nil {
			return nil, err
		}
		count[l.instance]++
		l.Close()
	}
	return count, nil
}

// vanishes makes sure that an attempt to connect is dropped for a reason, and that nobody answers it.
func (b *Bed) vanishes(ctx context.Context, instance string, to netip.AddrPort, reason dataplane.Reason) error {
	before := b.drops(reason)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		c, err := b.dial(ctx, instance, to)
		if err == nil {
			c.Close()
		}
		answered <- err
	}()
	ended := false
	err := await(ctx, "the drop counter "+reason.String(), func() bool {
		ended = len(answered) > 0
		return ended || b.drops(reason) > before
	})
	if err != nil {
		return err
	}
	cancel()
	if err := <-answered; ended || err == nil {
		return fmt.Errorf("the connection from %s to %s was to vanish, but: %v", instance, to, err)
	}
	return nil
}

// addrPort is an address of package net's as a value.
func addrPort(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
