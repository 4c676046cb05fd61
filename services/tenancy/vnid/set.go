package vnid

import "math/bits"

// wordBits is how many numbers one word of a level covers.
const wordBits = 64

// Set knows which VNIDs of a range are free. It is a bitmap with summaries:
// level 0 has one bit a VNID, set when it is free; a bit of the level above is
// set when its word below has any. Four levels cover the 24-bit space in
// 2.1 MiB, and finding the next free number looks at no more than two words a
// level. A Set is not safe for concurrent use.
type Set struct {
	span   Range
	levels [][]uint64
	taken  int
}

// NewSet returns a set of a valid range in which every VNID is free.
func NewSet(span Range) *Set {
	s := &Set{span: span}
	for n := span.Size(); ; {
		words := (n + wordBits - 1) / wordBits
		level := make([]uint64, words)
		for i := range level {
			level[i] = ^uint64(0)
		}
		if rest := n % wordBits; rest != 0 {
			level[words-1] = 1<<rest - 1
		}
		s.levels = append(s.levels, level)
		if words == 1 {
			return s
		}
		n = words
	}
}

// Range is what the set covers.
func (s *Set) Range() Range { return s.span }

// Taken is how many VNIDs of the range are not free.
func (s *Set) Taken() int { return s.taken }

// IsFree says whether n is of the range and free.
func (s *Set) IsFree(n uint32) bool {
	if !s.span.Contains(n) {
		return false
	}
	i := int(n - s.span.First)
	return s.levels[0][i/wordBits]&(1<<(i%wordBits)) != 0
}

// Take marks n as taken. A VNID that is taken, or outside the range, is left
// as it is.
func (s *Set) Take(n uint32) {
	if !s.IsFree(n) {
		return
	}
	s.taken++
	i := int(n - s.span.First)
	for _, level := range s.levels {
		level[i/wordBits] &^= 1 << (i % wordBits)
		if level[i/wordBits] != 0 {
			return // the summary above still says "has free"
		}
		i /= wordBits
	}
}

// Free marks n as free. A VNID that is free, or outside the range, is left as
// it is.
func (s *Set) Free(n uint32) {
	if !s.span.Contains(n) || s.IsFree(n) {
		return
	}
	s.taken--
	i := int(n - s.span.First)
	for _, level := range s.levels {
		had := level[i/wordBits] != 0
		level[i/wordBits] |= 1 << (i % wordBits)
		if had {
			return
		}
		i /= wordBits
	}
}

// Next answers the first free VNID at start or above, going on from the
// bottom of the range after its top. A start outside the range counts as the
// bottom. It answers false when none is free.
func (s *Set) Next(start uint32) (uint32, bool) {
	from := 0
	if s.span.Contains(start) {
		from = int(start - s.span.First)
	}
	i, ok := s.atOrAbove(from)
	if !ok {
		i, ok = s.atOrAbove(0)
	}
	if !ok {
		return 0, false
	}
	return s.span.First + uint32(i), true //nolint:gosec // i is below the range's size, which fits 24 bits
}

// atOrAbove finds the lowest set bit of level 0 at position from or above: it
// climbs until a word has something to the right, then descends to it.
func (s *Set) atOrAbove(from int) (int, bool) {
	at := 0
	for ; at < len(s.levels); at++ {
		if from/wordBits >= len(s.levels[at]) {
			return 0, false
		}
		word := s.levels[at][from/wordBits] >> (from % wordBits) << (from % wordBits)
		if word != 0 {
			from = from/wordBits*wordBits + bits.TrailingZeros64(word)
			break
		}
		from = from/wordBits + 1
	}
	if at == len(s.levels) {
		return 0, false
	}
	for ; at > 0; at-- {
		from = from*wordBits + bits.TrailingZeros64(s.levels[at-1][from])
	}
	return from, true
}
