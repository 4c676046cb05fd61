package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Meters on the wire.
const (
	typeMeterMod      = 29
	multipartMeters   = 10
	multipartMeterCap = 11

	meterAdd    = 0
	meterModify = 1

	meterPackets = 2 // Flag: the rate is of packets a second.
	meterBurst   = 4 // Flag: the burst counts.
	bandDrop     = 1

	maxMeter   = 0xffff0000 // Numbers above are reserved.
	allMeters  = 0xffffffff
	meterFixed = 8  // A meter's description before its bands.
	meterBand  = 16 // A band.
)

// ErrNoMeters says that the switch has no meters, so that nothing can be bounded by one.
var ErrNoMeters = errors.New("the switch has no meters")

// A Meter drops what passes it beyond a rate.
type Meter struct {
	ID    uint32 // 1 to 0xffff0000.
	Rate  uint32 // Packets a second.
	Burst uint32 // Packets at once, after a pause.
}

// KeepMeters makes the switch have these meters: it compares, and sends the difference, nothing if nothing differs.
// Others are left alone. It answers whether some were not there, so that flows which name them are not bounded by them
// until they are added again. A meter that is changed keeps the flows that name it. The error is ErrNoMeters when the
// switch can have none.
func (c *Conn) KeepMeters(ctx context.Context, meters []Meter) (added bool, err error) {
	if len(meters) == 0 {
		return false, nil
	}
	can, err := c.HasMeters(ctx)
	if err != nil {
		return false, err
	}
	if !can {
		return false, ErrNoMeters
	}
	has, err := c.meters(ctx)
	if err != nil {
		return false, fmt.Errorf("dump meters: %w", err)
	}
	for _, m := range meters {
		installed, there := has[m.ID]
		if there && installed == m {
			continue
		}
		command := uint16(meterModify)
		if !there {
			command, added = meterAdd, true
		}
		if err := c.setMeter(ctx, command, m); err != nil {
			return added, fmt.Errorf("set meter %d: %w", m.ID, err)
		}
	}
	return added, nil
}

// HasMeters reports whether the switch can have meters: the userspace datapath can, a kernel can from 4.15 on.
func (c *Conn) HasMeters(ctx context.Context) (bool, error) {
	var limit uint64
	err := c.askMultipart(ctx, multipartMeterCap, nil, func(part string) error {
		if len(part) < 4 {
			return errTruncated
		}
		limit = number(part[:4])
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("ask for meters: %w", err)
	}
	return limit > 0, nil
}

// meters reads the meters that the switch has. One that we would not make is the zero Meter.
func (c *Conn) meters(ctx context.Context) (map[uint32]Meter, error) {
	has := map[uint32]Meter{}
	all := binary.BigEndian.AppendUint32(nil, allMeters)
	err := c.askMultipart(ctx, multipartMeters, append(all, 0, 0, 0, 0), func(part string) error { return eachMeter(part, has) })
	return has, err
}

// eachMeter notes the meters in one part of a reply.
func eachMeter(body string, has map[uint32]Meter) error {
	for len(body) > 0 {
		if len(body) < meterFixed {
			return errTruncated
		}
		length := int(number(body[:2]))
		if length < meterFixed || length > len(body) {
			return fmt.Errorf("meter of %d bytes: %w", length, errTruncated)
		}
		id, flags, bands := uint32(number(body[4:8])), number(body[2:4]), body[meterFixed:length]
		m := Meter{}
		if len(bands) == meterBand && number(bands[:2]) == bandDrop && flags&(meterPackets|meterBurst) == meterPackets|meterBurst {
			m = Meter{ID: id, Rate: uint32(number(bands[4:8])), Burst: uint32(number(bands[8:12]))}
		}
		has[id] = m
		body = body[length:]
	}
	return nil
}

func (c *Conn) setMeter(ctx context.Context, command uint16, m Meter) error {
	e, err := c.open(2)
	if err != nil {
		return err
	}
	defer c.forget(e)
	err = c.write(ctx, func(b []byte) []byte {
		return appendSimple(appendMeterMod(b, e.first, command, m), typeBarrierRequest, e.last)
	})
	if err == nil {
		_, err = c.expect(ctx, e, typeBarrierReply)
	}
	return err
}

func appendMeterMod(b []byte, xid uint32, command uint16, m Meter) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, typeMeterMod, xid), command)
	b = binary.BigEndian.AppendUint16(b, meterPackets|meterBurst)
	b = binary.BigEndian.AppendUint32(b, m.ID)
	b = append(b, 0, bandDrop, 0, meterBand)
	b = binary.BigEndian.AppendUint32(b, m.Rate)
	b = binary.BigEndian.AppendUint32(b, m.Burst)
	return finish(append(b, 0, 0, 0, 0), start)
}
