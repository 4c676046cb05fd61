// Package pool decides which number of some ranges is handed out next: IPv4
// addresses and ports are numbers here.
//
// It is pure. It owns what belongs to a pool, what is taken of it, and the
// order in which the rest goes. It promises that Next answers a number that is
// not taken whenever there is one. That a number has one owner is promised by
// package catalog, which asks here for candidates only.
package pool

import (
	"fmt"
	"math/bits"
)

// Span is a range of numbers, both ends included.
type Span struct {
	First, Last uint32
	// Held are how many numbers at the start are handed out last: they are for
	// those who wish for a certain one.
	Held uint32
}

// Size is how many numbers the span has.
func (s Span) Size() int { return int(s.Last-s.First) + 1 }

// Contains says whether the span has n.
func (s Span) Contains(n uint32) bool { return n >= s.First && n <= s.Last }

// wordBits is how many numbers one word of a bitmap covers.
const wordBits = 64

// Pool is some spans that do not overlap, and what is taken of them. It is not
// safe for concurrent use.
type Pool struct {
	parts []part
	size  int
	taken int
}

// part is a span with a bit for each number, set while it is taken.
type part struct {
	Span
	bits []uint64
	free int
}

// New returns a pool of spans, of which nothing is taken. It refuses spans
// that are empty or overlap.
func New(spans []Span) (*Pool, error) {
	p := &Pool{}
	for i, s := range spans {
		if s.First > s.Last {
			return nil, fmt.Errorf("span %d is empty", i)
		}
		for j, other := range spans[:i] {
			if s.First <= other.Last && other.First <= s.Last {
				return nil, fmt.Errorf("span %d overlaps span %d", i, j)
			}
		}
		p.parts = append(p.parts, part{Span: s, bits: make([]uint64, (s.Size()+wordBits-1)/wordBits), free: s.Size()})
		p.size += s.Size()
	}
	return p, nil
}

// Size is how many numbers the pool has.
func (p *Pool) Size() int { return p.size }

// Taken is how many of them are taken.
func (p *Pool) Taken() int { return p.taken }

// Contains says whether the pool has n.
func (p *Pool) Contains(n uint32) bool { return p.partOf(n) != nil }

// Take marks n as taken. One that is taken, or not of the pool, is left as it is.
func (p *Pool) Take(n uint32) {
	if t := p.partOf(n); t != nil && !t.isTaken(n) {
		i := n - t.First
		t.bits[i/wordBits] |= 1 << (i % wordBits)
		t.free--
		p.taken++
	}
}

// Free marks n as free. One that is free, or not of the pool, is left as it is.
func (p *Pool) Free(n uint32) {
	if t := p.partOf(n); t != nil && t.isTaken(n) {
		i := n - t.First
		t.bits[i/wordBits] &^= 1 << (i % wordBits)
		t.free++
		p.taken--
	}
}

// Next answers a free number that skip does not refuse. Spans are used up in
// their order, each from a place that draw chooses below its argument, upward
// and around, and its held numbers last. It answers false when there is none.
func (p *Pool) Next(draw func(n uint32) uint32, skip func(n uint32) bool) (uint32, bool) {
	for i := range p.parts {
		t := &p.parts[i]
		held := min(t.Held, t.Last-t.First+1)
		if t.free == 0 {
			continue
		}
		open := t.First + held
		if held < t.Last-t.First+1 {
			start := open + draw(t.Last-open+1)
			if n, ok := t.between(start, t.Last, skip); ok {
				return n, true
			}
			if start > open {
				if n, ok := t.between(open, start-1, skip); ok {
					return n, true
				}
			}
		}
		if held > 0 {
			if n, ok := t.between(t.First, open-1, skip); ok {
				return n, true
			}
		}
	}
	return 0, false
}

func (p *Pool) partOf(n uint32) *part {
	for i := range p.parts {
		if p.parts[i].Contains(n) {
			return &p.parts[i]
		}
	}
	return nil
}

func (t *part) isTaken(n uint32) bool {
	i := n - t.First
	return t.bits[i/wordBits]&(1<<(i%wordBits)) != 0
}

// between answers the first free number of a range, both ends included. A word
// that is taken whole costs one step.
func (t *part) between(first, last uint32, skip func(uint32) bool) (uint32, bool) {
	for i := uint64(first - t.First); i <= uint64(last-t.First); {
		word := ^t.bits[i/wordBits] >> (i % wordBits)
		if word == 0 {
			i = (i/wordBits + 1) * wordBits
			continue
		}
		i += uint64(bits.TrailingZeros64(word)) //nolint:gosec // at most 63
		if i > uint64(last-t.First) {
			break
		}
		if n := t.First + uint32(i); !skip(n) { //nolint:gosec // i is within the span
			return n, true
		}
		i++
	}
	return 0, false
}
