package openflow

import (
	"encoding/binary"
	"slices"
	"strings"
)

// nextEntry splits the first entry off a list of match entries. It is false at the end, and where the list is cut short.
func nextEntry(tlv string) (h oxm, body, rest string, ok bool) {
	if len(tlv) < 4 {
		return 0, "", tlv, false
	}
	h = oxm(tlv[0])<<24 | oxm(tlv[1])<<16 | oxm(tlv[2])<<8 | oxm(tlv[3])
	end := 4 + h.length()
	if len(tlv) < end {
		return 0, "", tlv, false
	}
	return h, tlv[4:end], tlv[end:], true
}

// appendEntry appends an entry in canonical form: bits outside of the mask are zero, a full mask is not written, and an
// entry that matches everything is left out. An empty mask is a full one.
func appendEntry(b []byte, h oxm, value, mask string) []byte {
	full, empty := true, mask != ""
	for i := range len(mask) {
		full = full && mask[i] == 0xff
		empty = empty && mask[i] == 0
	}
	if empty {
		return b
	}
	if full {
		b = binary.BigEndian.AppendUint32(b, uint32(h))
		return append(b, value...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(h.withMask()))
	for i := range len(value) {
		b = append(b, value[i]&mask[i])
	}
	return append(b, mask...)
}

// appendMatch appends an OpenFlow 1.2+ match: type OXM, length without padding, entries, padding to eight bytes.
func appendMatch(b []byte, m Match) []byte {
	length := 4 + len(m.tlv)
	b = append(b, 0, 1, byte(length>>8), byte(length))
	b = append(b, m.tlv...)
	return pad8(b, length)
}

// decodeMatch makes a match from the entries that a switch wrote. It keeps all bytes that it does not understand, and
// shares tlv's memory when that is canonical already.
func decodeMatch(tlv string) Match {
	if isCanonical(tlv) {
		return Match{tlv: tlv}
	}
	var entries []string
	rest := tlv
	for {
		h, body, next, ok := nextEntry(rest)
		if !ok {
			break
		}
		entry := rest[:len(rest)-len(next)]
		rest = next
		if h.masked() && len(body)%2 == 0 && h.class() != classExperimenter {
			half := len(body) / 2
			unmasked := h.identity() | oxm(half)
			entry = string(appendEntry(nil, unmasked, body[:half], body[half:]))
		}
		if entry != "" {
			entries = append(entries, entry)
		}
	}
	slices.SortStableFunc(entries, func(a, b string) int {
		ha, _, _, _ := nextEntry(a)
		hb, _, _, _ := nextEntry(b)
		if d := int(ha.rank()) - int(hb.rank()); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return Match{tlv: strings.Join(entries, "") + rest}
}

// isCanonical reports whether all entries are known, in order, and have masks that need no change.
func isCanonical(tlv string) bool {
	last := -1
	for len(tlv) > 0 {
		h, body, next, ok := nextEntry(tlv)
		rank := int(h.rank())
		if !ok || rank == unranked || rank <= last {
			return false
		}
		if h.masked() && !cleanMask(body) {
			return false
		}
		last, tlv = rank, next
	}
	return true
}

// cleanMask reports whether value and mask are as appendEntry writes them.
func cleanMask(body string) bool {
	if len(body)%2 != 0 {
		return false
	}
	value, mask := body[:len(body)/2], body[len(body)/2:]
	full, empty := true, true
	for i := range len(mask) {
		if value[i]&^mask[i] != 0 {
			return false
		}
		full = full && mask[i] == 0xff
		empty = empty && mask[i] == 0
	}
	return !full && !empty
}

// pad8 appends zeros until length is a multiple of eight.
func pad8(b []byte, length int) []byte {
	const zeros = "\x00\x00\x00\x00\x00\x00\x00"
	return append(b, zeros[:-length&7]...)
}
