package idle

import (
	"container/list"
	"maps"
	"time"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

const (
	// maxOfService and maxWaiting bound what waits for one service, and in all. Four
	// times what the ancestor held for a service; the kernel's memory for all, with
	// packets of 1,500 bytes, is 2 MiB.
	maxOfService = 64
	maxWaiting   = 1024
	// longest is how long a packet waits. The ancestor gave up after as long.
	longest = 2 * time.Minute
	// needEvery is how often the need for pods is told while packets come.
	needEvery = 30 * time.Second
	// lateness bounds how long after a service's rules were taken out packets of it
	// may come that had passed them before.
	lateness = 5 * time.Second
)

// room keeps the books of what waits. It decides and does nothing. Not safe for
// concurrent use.
type room struct {
	now      func() time.Time
	of       map[Frontend]serviceview.Name
	services map[serviceview.Name]*service
	waiting  *list.List // of *held, longest first
	byStart  map[flow]*list.Element
	left     map[Frontend]time.Time // when services were let go
	counts   Stats
}

type service struct {
	waiting int
	asked   time.Time // when need was told
}

// held is a packet that waits.
type held struct {
	packet
	id    uint32
	name  serviceview.Name
	since time.Time
}

func newRoom(now func() time.Time) *room {
	return &room{
		now: now, of: map[Frontend]serviceview.Name{}, services: map[serviceview.Name]*service{}, waiting: list.New(),
		byStart: map[flow]*list.Element{}, left: map[Frontend]time.Time{},
	}
}

// decision is what a packet leads to.
type decision struct {
	verdicts []judged
	service  serviceview.Name
	need     bool // it needs pods
	first    bool // for the first time since it is held
}

type judged struct {
	id uint32
	verdict
}

// take takes a packet in, or says what else becomes of it.
func (r *room) take(id uint32, p packet) (d decision) {
	name, ok := r.find(p)
	if !ok {
		v := drop
		if r.late(p) {
			v = again
			r.counts.Released++
		}
		d.verdicts = []judged{{id, v}}
		return d
	}
	now := r.now()
	s := r.services[name]
	if now.Sub(s.asked) >= needEvery {
		d.need, d.first, d.service, s.asked = true, s.asked.IsZero(), name, now
	}
	if p.protocol != proxy.UDP {
		if e := r.byStart[p.flow]; e != nil {
			h := e.Value.(*held) //nolint:forcetypeassert // nothing else is in there
			if h.start == p.start {
				d.verdicts = []judged{{id, drop}} // a repetition: the first one waits
				return d
			}
			// The client gave up and tries anew from the same port.
			r.remove(e)
			r.counts.Dropped++
			d.verdicts = append(d.verdicts, judged{h.id, drop})
		}
	}
	if s.waiting >= maxOfService || r.waiting.Len() >= maxWaiting {
		r.counts.Dropped++
		d.verdicts = append(d.verdicts, judged{id, drop})
		return d
	}
	e := r.waiting.PushBack(&held{packet: p, id: id, name: name, since: now})
	s.waiting++
	r.counts.Held++
	if p.protocol != proxy.UDP {
		r.byStart[p.flow] = e
	}
	return d
}

// find answers the idled service that a packet is for.
func (r *room) find(p packet) (serviceview.Name, bool) {
	name, ok := r.of[Frontend{p.to.Addr(), p.protocol, p.to.Port()}]
	if !ok {
		name, ok = r.of[Frontend{Protocol: p.protocol, Port: p.to.Port()}]
	}
	return name, ok
}

// late says that a packet is for a service that was let go just now.
func (r *room) late(p packet) bool {
	for _, t := range []Frontend{{p.to.Addr(), p.protocol, p.to.Port()}, {Protocol: p.protocol, Port: p.to.Port()}} {
		if at, ok := r.left[t]; ok && r.now().Sub(at) < lateness {
			return true
		}
	}
	return false
}

// remove takes a packet out of the books.
func (r *room) remove(e *list.Element) {
	h := e.Value.(*held) //nolint:forcetypeassert // nothing else is in there
	r.waiting.Remove(e)
	if r.byStart[h.flow] == e {
		delete(r.byStart, h.flow)
	}
	if s := r.services[h.name]; s != nil {
		s.waiting--
	}
}

// admit adds services; those that are there keep what waits.
func (r *room) admit(want Services) {
	for name, frontends := range want {
		if r.services[name] == nil {
			r.services[name] = &service{}
		}
		for _, t := range frontends {
			r.of[t] = name
		}
	}
}

// keep makes the services exactly those, all of which were admitted before, and
// answers the packets that are let go, in the order in which they came.
func (r *room) keep(want Services) (released []uint32) {
	now := r.now()
	maps.DeleteFunc(r.left, func(_ Frontend, at time.Time) bool { return now.Sub(at) >= lateness })
	stays := map[Frontend]serviceview.Name{}
	for name, frontends := range want {
		for _, t := range frontends {
			stays[t] = name
		}
	}
	for t := range r.of {
		if _, ok := stays[t]; !ok {
			r.left[t] = now
		}
	}
	r.of = stays
	for e := r.waiting.Front(); e != nil; {
		next := e.Next()
		h := e.Value.(*held) //nolint:forcetypeassert // nothing else is in there
		if name, ok := r.find(h.packet); !ok {
			r.remove(e)
			released = append(released, h.id)
		} else if name != h.name { // the address went to another idled service
			r.services[h.name].waiting--
			r.services[name].waiting++
			h.name = name
		}
		e = next
	}
	maps.DeleteFunc(r.services, func(name serviceview.Name, _ *service) bool { _, ok := want[name]; return !ok })
	r.counts.Released += uint64(len(released))
	return released
}

// patience answers how long the packet that waits longest may still wait.
func (r *room) patience() (left time.Duration, waiting bool) {
	e := r.waiting.Front()
	if e == nil {
		return 0, false
	}
	return max(0, e.Value.(*held).since.Add(longest).Sub(r.now())), true //nolint:forcetypeassert // nothing else is in there
}

// expire answers the packets that have waited too long, and forgets them.
func (r *room) expire() (dropped []uint32) {
	for {
		left, waiting := r.patience()
		if !waiting || left > 0 {
			r.counts.Dropped += uint64(len(dropped))
			return dropped
		}
		dropped = append(dropped, r.waiting.Front().Value.(*held).id) //nolint:forcetypeassert // nothing else is in there
		r.remove(r.waiting.Front())
	}
}

// forget forgets all that waits: the kernel has dropped it.
func (r *room) forget() {
	r.counts.Dropped += uint64(r.waiting.Len())
	for r.waiting.Len() > 0 {
		r.remove(r.waiting.Front())
	}
}

func (r *room) stats() Stats {
	s := r.counts
	s.Services, s.Waiting = len(r.services), r.waiting.Len()
	return s
}
