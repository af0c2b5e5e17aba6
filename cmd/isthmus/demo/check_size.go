// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// maxPacket is the longest IPv4 packet that passes, in bytes.
const maxPacket = 8500

// The packets are segments of a connection that is open, made by hand: no kernel would make them itself, since the MSS
// is clamped. All devices on the way take 9001 bytes.
func mtu(ctx context.Context, b *Bed) (string, error) {
	before := b.drops(dataplane.TooBig)
	l, err := b.line(ctx, "client-1", b.endpoint(0, 0, portLine))
	if err != nil {
		return "", err
	}
	defer l.Close()
	if err := b.oversize(ctx, "client-1", l.TCPConn, l.reader); err != nil {
		return "", fmt.Errorf("toward the service: %w", err)
	}

	back, err := b.line(ctx, "client-1", b.endpoint(0, 0, portLine))
	if err != nil {
		return "", err
	}
	defer back.Close()
	target, err := b.serverEnd(back)
	if err != nil {
		return "", err
	}
	if err := b.oversize(ctx, back.instance, target.TCPConn, back.reader); err != nil {
		return "", fmt.Errorf("toward the client: %w", err)
	}
	const oversized = 4
	if n := b.drops(dataplane.TooBig) - before; n != oversized {
		return "", fmt.Errorf("%d oversized packets were sent, too-big counted %d", oversized, n)
	}
	return fmt.Sprintf("8500 acknowledged each way; too-big counted %d of 8501, no ICMP", oversized), nil
}

// oversize sends one segment of 8501 bytes with DF and one without, then one of 8500, all of the same connection and
// place in it, from an instance that has the end sender. Whatever answered the first two would come before the
// acknowledgement of the third. What was sent comes out at arrived in the end.
func (b *Bed) oversize(ctx context.Context, instance string, sender *net.TCPConn, arrived io.Reader) error {
	tcp, err := b.raw(instance, "tcp")
	if err != nil {
		return err
	}
	defer tcp.Close()
	icmp, err := b.raw(instance, "icmp")
	if err != nil {
		return err
	}
	defer icmp.Close()
	e, err := endOf(sender)
	if err != nil {
		return err
	}
	fits := e.segment(maxPacket, true)
	for _, packet := range [][]byte{e.segment(maxPacket+1, true), e.segment(maxPacket+1, false), fits} {
		if err := tcp.inject(packet, e.remote.Addr()); err != nil {
			return err
		}
	}
	payload := fits[wire.IPv4MinLen+wire.TCPMinLen:]
	deadline, _ := ctx.Deadline()
	furthest := e.next
	acknowledged, err := tcp.next(func(message []byte, from netip.Addr) bool {
		t, ok := wire.ParseTCP(message)
		if ok && from == e.remote.Addr() && t.SrcPort() == e.remote.Port() && t.DstPort() == e.local.Port() {
			furthest = t.Ack()
		}
		return furthest != e.next
	}, deadline)
	switch {
	case err != nil:
		return err
	case !acknowledged:
		return errors.New("a segment of 8500 bytes was not acknowledged")
	case furthest != e.next+uint32(len(payload)):
		return fmt.Errorf("%d bytes were acknowledged, those of the segment of 8500 bytes are %d", furthest-e.next, len(payload))
	}
	heard, err := icmp.next(func([]byte, netip.Addr) bool { return true }, time.Now().Add(10*time.Millisecond))
	if err == nil && heard {
		err = errors.New("an ICMP message came back")
	}
	if err != nil {
		return err
	}
	// The kernel of the sender knows nothing of what was sent for it. Saying the same again brings both into step.
	if _, err := sender.Write(payload); err != nil {
		return err
	}
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(arrived, got); err != nil {
		return err
	}
	if string(got) != string(payload) {
		return errors.New("what arrived is not what was sent")
	}
	return nil
}

// serverEnd is the other end of a connection to a target.
func (b *Bed) serverEnd(l *line) (*targetEnd, error) {
	remote, err := netip.ParseAddrPort(l.remote)
	if err != nil {
		return nil, err
	}
	c := b.targetEnd(remote)
	if c == nil {
		return nil, fmt.Errorf("no target has a connection from %s", remote)
	}
	return c, nil
}

func mss(ctx context.Context, b *Bed) (string, error) {
	const clamped, header = 8460, wire.ProxyV2IPv4Len
	own := 0
	for _, c := range []struct {
		port           uint16
		client, target int // what each side must be told
	}{
		{portLine, clamped, clamped},
		{portGreeting, clamped - header, clamped},
	} {
		l, err := b.line(ctx, "client-1", b.endpoint(0, 0, c.port))
		if err != nil {
			return "", err
		}
		defer l.Close()
		target, err := b.serverEnd(l)
		if err != nil {
			return "", err
		}
		for _, side := range []struct {
			name  string
			conn  *net.TCPConn
			other *net.TCPConn
			want  int
		}{{"client", l.TCPConn, target.TCPConn, c.client}, {"target", target.TCPConn, l.TCPConn, c.target}} {
			got, err := offeredMSS(side.conn)
			if err != nil {
				return "", err
			}
			if own, err = ownMSS(side.other); err != nil {
				return "", err
			}
			if got != side.want || own <= got {
				return "", fmt.Errorf("port %d: the %s was told %d, and should be told %d; the other end's own MSS is %d",
					c.port, side.name, got, side.want, own)
			}
		}
	}
	return fmt.Sprintf("target told %d, client %d or %d; their own is %d", clamped, clamped, clamped-header, own), nil
}
