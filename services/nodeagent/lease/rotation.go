package lease

import "container/list"

// rotation hands out the numbers of a range: first those that were never used,
// in ascending order, then the one that was given back longest ago. Every
// operation but narrow is O(1), amortised.
type rotation struct {
	first, last uint32
	next        uint64
	used        map[uint32]Key
	inside      int // how many of used are inside the range
	freed       *list.List
	place       map[uint32]*list.Element
}

func newRotation() *rotation {
	return &rotation{
		first: 1, last: 0, // empty until narrow
		used:  map[uint32]Key{},
		freed: list.New(),
		place: map[uint32]*list.Element{},
	}
}

// narrow sets the range. What is in use stays in use, inside or outside. What
// was freed outside the range is forgotten.
func (r *rotation) narrow(first, last uint32) {
	r.first, r.last, r.next = first, last, uint64(first)
	for e := r.freed.Front(); e != nil; {
		n, next := e.Value.(uint32), e.Next()
		if !r.contains(n) {
			r.freed.Remove(e)
			delete(r.place, n)
		}
		e = next
	}
	r.inside = 0
	for n := range r.used {
		if r.contains(n) {
			r.inside++
		}
	}
}

func (r *rotation) contains(n uint32) bool { return n >= r.first && n <= r.last }

func (r *rotation) owner(n uint32) (Key, bool) {
	k, ok := r.used[n]
	return k, ok
}

// free counts what is left of the range, and the range.
func (r *rotation) free() (free, total int) {
	if r.last < r.first {
		return 0, 0
	}
	total = int(r.last-r.first) + 1
	return total - r.inside, total
}

// pick chooses a number without taking it.
func (r *rotation) pick() (uint32, bool) {
	for ; r.next <= uint64(r.last); r.next++ {
		n := uint32(r.next)
		_, used := r.used[n]
		_, freed := r.place[n]
		if !used && !freed {
			return n, true
		}
	}
	if e := r.freed.Front(); e != nil {
		return e.Value.(uint32), true
	}
	return 0, false
}

// take gives n to owner.
func (r *rotation) take(n uint32, owner Key) {
	if e, ok := r.place[n]; ok {
		r.freed.Remove(e)
		delete(r.place, n)
	}
	if _, ok := r.used[n]; !ok && r.contains(n) {
		r.inside++
	}
	r.used[n] = owner
}

// give takes n back: it is now the last in the row.
func (r *rotation) give(n uint32) {
	if _, ok := r.used[n]; ok && r.contains(n) {
		r.inside--
	}
	delete(r.used, n)
	if !r.contains(n) {
		return
	}
	if e, ok := r.place[n]; ok {
		r.freed.Remove(e)
	}
	r.place[n] = r.freed.PushBack(n)
}

// history lists what was freed, the longest ago first.
func (r *rotation) history() []uint32 {
	all := make([]uint32, 0, r.freed.Len())
	for e := r.freed.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(uint32))
	}
	return all
}
