package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// The kinds of records. The numbers are on disk: never change one.
const (
	recordLease        byte = 1 // a byte for the state, then the Attachment message
	recordAttached     byte = 2 // a key
	recordDetaching    byte = 3 // a key
	recordReleased     byte = 4 // a key
	recordFreedAddress byte = 5 // four bytes
	recordFreedPort    byte = 6 // four bytes
	recordSubnet       byte = 7 // four bytes of the address, one of the length
)

// record is a decoded one; kind says which of the other fields count.
type record struct {
	kind   byte
	lease  Lease
	key    Key
	number uint32
	subnet netip.Prefix
}

var errRecord = errors.New("lease record is malformed")

func encodeLease(l Lease) ([]byte, error) {
	state := byte(0)
	if l.Attached {
		state = 1
	}
	body, err := proto.MarshalOptions{}.MarshalAppend([]byte{recordLease, state}, l.Attachment)
	if err != nil {
		return nil, fmt.Errorf("encode lease: %w", err)
	}
	return body, nil
}

// encodeKey writes the two names with a zero byte between: neither can hold one
// (CNI allows letters, digits and a few signs).
func encodeKey(kind byte, key Key) []byte {
	return append([]byte{kind}, key.ContainerID+"\x00"+key.Ifname...)
}

func encodeNumber(kind byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, n)
}

func encodeSubnet(subnet netip.Prefix) []byte {
	return append(encodeNumber(recordSubnet, number(subnet.Addr())), byte(subnet.Bits()))
}

func decode(body []byte) (record, error) {
	if len(body) == 0 {
		return record{}, errRecord
	}
	r := record{kind: body[0]}
	body = body[1:]
	switch r.kind {
	case recordLease:
		if len(body) == 0 || body[0] > 1 {
			return record{}, fmt.Errorf("state of a lease: %w", errRecord)
		}
		a := &cniv1.Attachment{}
		if err := proto.Unmarshal(body[1:], a); err != nil {
			return record{}, fmt.Errorf("attachment: %w: %w", errRecord, err)
		}
		r.lease = Lease{Attachment: a, Attached: body[0] == 1}
	case recordAttached, recordDetaching, recordReleased:
		id, ifname, ok := strings.Cut(string(body), "\x00")
		if !ok || id == "" || ifname == "" {
			return record{}, fmt.Errorf("key: %w", errRecord)
		}
		r.key = Key{ContainerID: id, Ifname: ifname}
	case recordFreedAddress, recordFreedPort:
		if len(body) != 4 {
			return record{}, fmt.Errorf("number of %d bytes: %w", len(body), errRecord)
		}
		r.number = binary.BigEndian.Uint32(body)
	case recordSubnet:
		if len(body) != 5 {
			return record{}, fmt.Errorf("subnet of %d bytes: %w", len(body), errRecord)
		}
		r.subnet = netip.PrefixFrom(address(binary.BigEndian.Uint32(body)), int(body[4]))
		if !usable(r.subnet) {
			return record{}, fmt.Errorf("subnet %s: %w", r.subnet, errRecord)
		}
	default:
		return record{}, fmt.Errorf("kind %d: %w", r.kind, errRecord)
	}
	return r, nil
}
