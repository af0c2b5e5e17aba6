// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package dataplane

// match
//
// Expects: the role and slot of the ENI that (port, destination) belongs to.
// Does: refuses sources that cannot be a peer of that ENI. That an ENI of ours is none either is for find and recognise to
// say of what is of no flow, since it takes a look into a table: the peers of a flow were no ENIs when it was opened.
// Drops: BadSource; NoENI and WrongSide by unmatched; FlowRemoved and NoENI for an ENI that is gone.
// See: design of views in view.go.
func (w *worker) match(p *packet) bool {
	a := unmapped(p.key.Remote)
	if p.quote != 0 {
		a = p.ip().Src()
	}
	if a[0] == 127 || a[0] == 0 || a[0] >= 224 || p.quote != 0 && w.ours(p, a) {
		return w.drop(p, BadSource)
	}
	if w.view.enis[p.key.ENI].gone {
		return w.answerGone(p)
	}
	return true
}

// ours says whether an address is that of an ENI on the packet's port.
func (w *worker) ours(p *packet, a [4]byte) bool { return w.view.addrs.find(p.in, mapped(a)) >= 0 }

// unmatched counts a packet that is for no ENI of its port.
func (w *worker) unmatched(p *packet) bool {
	if w.view.known.find(anyPort, mapped(p.ip().Dst())) >= 0 {
		return w.drop(p, WrongSide)
	}
	return w.drop(p, NoENI)
}

// answerGone ends what is left of connections through an ENI that was removed; for anything else the address is nobody's.
func (w *worker) answerGone(p *packet) bool {
	if _, _, ok := w.flows.FindHash(&p.key, p.hash); ok && p.body != 0 {
		return w.refuse(p, FlowRemoved)
	}
	return w.drop(p, NoENI)
}
