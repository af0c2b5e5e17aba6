// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane"
	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/wire"
)

// captured is a GENEVE datagram that an appliance's host received.
type captured struct {
	node                netip.Addr
	srcPort, dstPort    uint16
	header              wire.GeneveAWS
	overhead, innerSize int // bytes
	ttl                 uint8
}

// Datagrams of one flow are looked at as they arrive at both appliances of the zone, from the UDP header on.
func geneveForm(ctx context.Context, b *Bed) (string, error) {
	const datagrams, size = 5, 1000
	stop, err := b.echoUDP(siteA, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	sockets := map[string]*rawSocket{}
	for _, fw := range zone1 {
		if sockets[fw], err = b.raw(fw, "udp"); err != nil {
			return "", err
		}
		defer sockets[fw].Close()
	}
	to := b.site(siteA, portEcho)
	d, err := b.dialUDP(ctx, appA.instance, to)
	if err != nil {
		return "", err
	}
	defer d.Close()
	for range datagrams {
		if err := d.ask(string(make([]byte, size)), datagramTime); err != nil {
			return "", err
		}
	}
	f, err := b.both(tuple{appA.vpc, "udp", d.local(), to}, appA.out, appA.back)
	if err != nil {
		return "", err
	}
	var first captured
	for n := range datagrams {
		c, err := capture(ctx, sockets[f.instance], d.local())
		if err != nil {
			return "", err
		}
		if n == 0 {
			first = c
		}
		if c != first {
			return "", fmt.Errorf("datagram %d of the flow is %+v, the first was %+v", n+1, c, first)
		}
	}
	number, _ := wire.EndpointNumber(b.gateway(appA.out).ID)
	want := captured{node: b.gatewayNode(0), srcPort: first.srcPort, dstPort: wire.GenevePort, overhead: 68, ttl: 63,
		innerSize: wire.IPv4MinLen + wire.UDPLen + size,
		header:    wire.GeneveAWS{Proto: wire.EtherTypeIPv4, Endpoint: number, Cookie: first.header.Cookie}}
	if first != want || fmt.Sprintf("%08x", first.header.Cookie) != f.out.Cookie {
		return "", fmt.Errorf("%s received %+v, it should be %+v", f.instance, first, want)
	}
	return fmt.Sprintf("%d bytes: endpoint %016x, cookie %08x, port %d throughout", first.overhead, number, first.header.Cookie, first.srcPort), nil
}

// capture waits for a GENEVE datagram whose inner packet comes from an address. Its options must be the three of AWS, in
// their order.
func capture(ctx context.Context, socket *rawSocket, src netip.AddrPort) (c captured, err error) {
	deadline, _ := ctx.Deadline()
	var fault wire.GeneveFault
	found, err := socket.next(func(message []byte, from netip.Addr) bool {
		udp, ok := wire.ParseUDP(message)
		if !ok || udp.DstPort() != wire.GenevePort {
			return false
		}
		c = captured{node: from, srcPort: udp.SrcPort(), dstPort: udp.DstPort()}
		if c.header, fault = wire.ParseGeneveAWS(udp[wire.UDPLen:]); fault != wire.GeneveOK {
			return true
		}
		packet := udp[wire.UDPLen+wire.GeneveAWSLen:]
		var t wire.Tuple
		if !t.Parse(packet) || netip.AddrFrom16(t.Src).Unmap() != src.Addr() || t.SrcPort != src.Port() {
			return false
		}
		c.overhead, c.innerSize = wire.IPv4MinLen+wire.UDPLen+wire.GeneveAWSLen, len(packet)
		c.ttl = wire.IPv4(packet).TTL()
		return true
	}, deadline)
	switch {
	case err != nil:
	case !found:
		err = errors.New("no GENEVE datagram came")
	case fault != wire.GeneveOK:
		err = fmt.Errorf("a GENEVE datagram is not as AWS sends it: %s", fault)
	}
	return c, err
}

// gatewayNode is the address of the gateway load balancer's node in a zone (0 or 1).
func (b *Bed) gatewayNode(zone int) netip.Addr {
	return b.topology.LoadBalancers[1].Nodes[zone].Address
}

// Segments are made by hand, as for interface endpoints, on a connection that itself stays below the limit.
func inspectedMTU(ctx context.Context, b *Bed) (string, error) {
	const jumbo = "jumbo-a"
	small := netns.Dialer{Control: func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_MAXSEG, 8000) }}
	before := b.drops(dataplane.TooBig)
	l, err := b.lineBy(ctx, small, jumbo, b.site(siteA, portLine))
	if err != nil {
		return "", err
	}
	defer l.Close()
	if err := b.oversize(ctx, jumbo, l.TCPConn, l.reader); err != nil {
		return "", fmt.Errorf("toward the internet: %w", err)
	}
	back, err := b.lineBy(ctx, small, jumbo, b.site(siteA, portLine))
	if err != nil {
		return "", err
	}
	defer back.Close()
	site, err := b.serverEnd(back)
	if err != nil {
		return "", err
	}
	if err := b.oversize(ctx, siteA, site.TCPConn, back.reader); err != nil {
		return "", fmt.Errorf("from the internet: %w", err)
	}
	const oversized = 4
	if n := b.drops(dataplane.TooBig) - before; n != oversized {
		return "", fmt.Errorf("%d oversized packets were sent, too-big counted %d", oversized, n)
	}
	return fmt.Sprintf("8500 acknowledged each way (8568 in GENEVE); too-big counted %d of 8501", oversized), nil
}

// forgery is a datagram to a load balancer node that is not to be taken for an appliance's answer.
type forgery struct {
	reason dataplane.Reason
	edit   func(*answer)
}

// answer is what an appliance returns, for forgeries to change.
type answer struct {
	instance         string
	srcPort, dstPort uint16
	geneve           []byte // header with options
	inner            []byte
	checksum         uint16
}

// forgeries each change one thing about a true answer.
func (b *Bed) forgeries(f *trail) []forgery {
	other := zone1[0]
	if f.instance == other {
		other = zone1[1]
	}
	foreign, _ := wire.EndpointNumber(b.gateway(appB.out).ID)
	cookie, _ := strconv.ParseUint(f.out.Cookie, 16, 32)
	number, _ := wire.EndpointNumber(b.gateway(appA.out).ID)
	header := func(endpoint uint64, cookie uint64) func(*answer) {
		return func(a *answer) { wire.PutGeneveAWS(a.geneve, wire.EtherTypeIPv4, endpoint, 0, uint32(cookie)) }
	}
	const versionBits, vni, protocol, firstOption = 0, 6, 2, 8
	return []forgery{
		{dataplane.NotGeneve, func(a *answer) { a.dstPort++ }},
		{dataplane.OuterChecksum, func(a *answer) { a.checksum = 0xbad }},
		{dataplane.GeneveTruncated, func(a *answer) { a.geneve, a.inner = a.geneve[:20], nil }},
		{dataplane.GeneveVersion, func(a *answer) { a.geneve[versionBits] |= 1 << 6 }},
		{dataplane.GeneveLayout, func(a *answer) { a.geneve[vni] = 1 }},
		{dataplane.GeneveLayout, func(a *answer) { a.geneve[firstOption+1] = 9 }}, // another class
		{dataplane.GeneveProtocol, func(a *answer) { a.geneve[protocol], a.geneve[protocol+1] = 0x65, 0x58 }},
		{dataplane.WrongCookie, header(number, cookie^0x00100000)},
		{dataplane.WrongEndpoint, header(foreign, cookie)},
		{dataplane.WrongTarget, func(a *answer) { a.instance = other }},
		{dataplane.WrongInner, func(a *answer) { wire.UDP(a.inner[wire.IPv4MinLen:]).SetSrcPort(9) }},
	}
}

// Each forgery is sent from the appliance's own host while its flow lives. In the end the true answer passes, so that it
// was the one change that mattered.
func forged(ctx context.Context, b *Bed) (string, error) {
	stop, err := b.echoUDP(siteA, portEcho)
	if err != nil {
		return "", err
	}
	defer stop()
	to := b.site(siteA, portEcho)
	d, err := b.dialUDP(ctx, appA.instance, to)
	if err != nil {
		return "", err
	}
	defer d.Close()
	if err := d.ask("hello", datagramTime); err != nil {
		return "", err
	}
	f, err := b.both(tuple{appA.vpc, "udp", d.local(), to}, appA.out, appA.back)
	if err != nil {
		return "", err
	}
	reasons := map[dataplane.Reason]bool{}
	for _, forgery := range b.forgeries(&f) {
		before := b.drops(forgery.reason)
		a := genuine(b, &f, to, d.local(), "forged")
		forgery.edit(a)
		if err := b.give(a); err != nil {
			return "", err
		}
		if err := await(ctx, "the drop counter "+forgery.reason.String(), func() bool { return b.drops(forgery.reason) > before }); err != nil {
			return "", err
		}
		reasons[forgery.reason] = true
	}
	if err := b.give(genuine(b, &f, to, d.local(), "genuine")); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	deadline, _ := ctx.Deadline()
	d.SetReadDeadline(deadline)
	n, err := d.Read(buf)
	if err != nil {
		return "", fmt.Errorf("the true answer did not arrive: %w", err)
	}
	if string(buf[:n]) != "genuine" {
		return "", fmt.Errorf("%s received %q", appA.instance, buf[:n])
	}
	return fmt.Sprintf("%d forgeries dropped for %d reasons; the true answer passed", len(b.forgeries(&f)), len(reasons)), nil
}

// genuine is a true answer of the appliance of a flow: a datagram to inside that it might have been sent from outside.
func genuine(b *Bed, f *trail, src, dst netip.AddrPort, text string) *answer {
	a := &answer{instance: f.instance, srcPort: f.out.SourcePort, dstPort: wire.GenevePort, geneve: make([]byte, wire.GeneveAWSLen)}
	number, _ := wire.EndpointNumber(b.gateway(appA.out).ID)
	cookie, _ := strconv.ParseUint(f.out.Cookie, 16, 32)
	wire.PutGeneveAWS(a.geneve, wire.EtherTypeIPv4, number, 0, uint32(cookie))
	a.inner = datagram(src, dst, []byte(text), 0)
	return a
}

// give sends an answer to the gateway load balancer's node of the first zone.
func (b *Bed) give(a *answer) error {
	socket, err := b.raw(a.instance, "udp")
	if err != nil {
		return err
	}
	defer socket.Close()
	node := b.gatewayNode(0)
	payload := append(append([]byte{}, a.geneve...), a.inner...)
	return socket.inject(datagram(netip.AddrPortFrom(socket.local, a.srcPort), netip.AddrPortFrom(node, a.dstPort), payload, a.checksum), node)
}

// datagram is an IPv4 packet with UDP, whose checksum is as given; 0 is none.
func datagram(src, dst netip.AddrPort, payload []byte, checksum uint16) []byte {
	b := make([]byte, wire.IPv4MinLen+wire.UDPLen, wire.IPv4MinLen+wire.UDPLen+len(payload))
	wire.IPv4(b).Init(cap(b), wire.ProtoUDP, 64, src.Addr().As4(), dst.Addr().As4())
	udp := wire.UDP(b[wire.IPv4MinLen:])
	wire.PutUDP(udp, src.Port(), dst.Port(), wire.UDPLen+len(payload))
	udp.SetChecksum(checksum)
	return append(b, payload...)
}
