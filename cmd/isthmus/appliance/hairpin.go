// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package appliance

// hairpin sends back what may pass, until the alarm rings. It runs in the appliance's namespace.
func (a *Appliance) hairpin() error {
	tx, err := a.newSender()
	if err != nil {
		return err
	}
	defer tx.close()
	return a.receiveAll(func(batch []message) {
		a.mu.Lock()
		a.tick()
		for i := range batch {
			m := &batch[i]
			for {
				datagram, ok := m.next()
				if !ok {
					break
				}
				in := inspected{datagram: datagram}
				if !a.inspect(m, &in) {
					continue
				}
				a.answered(&in.flow.ways[in.way], 1, len(in.packet))
				tx.add(&m.route, datagram)
			}
		}
		a.mu.Unlock()
		tx.flush()
	})
}

// receiveAll calls carry with each batch that the socket receives, until the alarm rings.
func (a *Appliance) receiveAll(carry func([]message)) error {
	for {
		batch, err := a.rx.receive()
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			a.receives.Add(1)
			carry(batch)
			continue
		}
		if more, err := a.alarm.wait(a.rx.fd); !more {
			return err
		}
	}
}

// answered counts packets, of size bytes together, that go back under the header of a direction of a flow. The caller holds mu.
func (a *Appliance) answered(w *way, packets, size int) {
	w.out.count(packets, size)
	w.endpoint.out.count(packets, size)
	a.sent.count(packets, size)
}
