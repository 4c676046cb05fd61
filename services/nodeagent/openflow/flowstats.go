package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// An InstalledFlow is a flow as the switch has it.
type InstalledFlow struct {
	Flow
	Packets     uint64
	Bytes       uint64
	Age         time.Duration // Since it was added or replaced.
	IdleTimeout uint16        // Seconds without a packet until it goes away; zero is never.
	HardTimeout uint16        // Seconds until it goes away; zero is never.
	Flags       uint16        // OFPFF_ flags.
}

// Permanent reports whether the flow stays until deleted and is otherwise plain, as our flows are.
func (f InstalledFlow) Permanent() bool {
	return f.IdleTimeout == 0 && f.HardTimeout == 0 && f.Flags == 0
}

// A FlowCount sums up all flows of a switch.
type FlowCount struct {
	Packets uint64
	Bytes   uint64
	Flows   uint32
}

var errTruncated = errors.New("message is cut short")

// appendMultipart asks a question that can have an answer in parts.
func appendMultipart(b []byte, xid uint32, multipart uint16, question []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, typeMultipartRequest, xid), multipart)
	b = append(b, 0, 0, 0, 0, 0, 0) // No flags, padding.
	return finish(append(b, question...), start)
}

// flowRequest asks for all flows of all tables, or for their sum.
func flowRequest() []byte {
	b := []byte{0xff, 0, 0, 0} // All tables, padding.
	b = binary.BigEndian.AppendUint32(b, portAny)
	b = binary.BigEndian.AppendUint32(b, portAny)
	b = append(b, make([]byte, 4+8+8)...) // Padding, any cookie, no mask.
	return appendMatch(b, Any())
}

// splitMultipart checks what every part of a multipart reply starts with.
func splitMultipart(body string, multipart uint64) (rest string, more bool, err error) {
	if len(body) < 8 {
		return "", false, errTruncated
	}
	if kind := number(body[:2]); kind != multipart {
		return "", false, fmt.Errorf("multipart reply of type %d where %d was asked for", kind, multipart)
	}
	return body[8:], number(body[2:4])&multipartMore != 0, nil
}

// eachFlowStats visits the flows in one part of a reply. The visited flow's Actions are valid only until the next visit;
// scratch is the memory they are put in, and is returned to be used again.
func eachFlowStats(body string, scratch []Action, visit func(InstalledFlow)) ([]Action, error) {
	for len(body) > 0 {
		if len(body) < flowStatsFixed+8 {
			return scratch, errTruncated
		}
		length := int(number(body[:2]))
		if length < flowStatsFixed+8 || length > len(body) {
			return scratch, fmt.Errorf("flow entry of %d bytes: %w", length, errTruncated)
		}
		f, err := decodeFlowStats(body[:length], scratch[:0])
		if err != nil {
			return scratch, err
		}
		scratch = f.Actions
		if len(f.Actions) == 0 {
			f.Actions = nil
		}
		visit(f)
		body = body[length:]
	}
	return scratch, nil
}

func decodeFlowStats(entry string, scratch []Action) (InstalledFlow, error) {
	match := entry[flowStatsFixed:]
	length := int(number(match[2:4]))
	padded := (length + 7) / 8 * 8
	if number(match[:2]) != 1 || length < 4 || padded > len(match) {
		return InstalledFlow{}, fmt.Errorf("match of %d bytes: %w", length, errTruncated)
	}
	return InstalledFlow{
		Flow: Flow{
			Table:    entry[2],
			Priority: uint16(number(entry[12:14])),
			Cookie:   number(entry[24:32]),
			Match:    decodeMatch(match[4:length]),
			Actions:  appendDecoded(scratch, match[padded:]),
		},
		Age:         time.Duration(number(entry[4:8]))*time.Second + time.Duration(number(entry[8:12])),
		IdleTimeout: uint16(number(entry[14:16])),
		HardTimeout: uint16(number(entry[16:18])),
		Flags:       uint16(number(entry[18:20])),
		Packets:     number(entry[32:40]),
		Bytes:       number(entry[40:48]),
	}, nil
}

func decodeAggregate(body string) (FlowCount, error) {
	if len(body) < 20 {
		return FlowCount{}, errTruncated
	}
	return FlowCount{Packets: number(body[:8]), Bytes: number(body[8:16]), Flows: uint32(number(body[16:20]))}, nil
}
