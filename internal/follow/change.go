package follow

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/token"
)

// maxTombstones bounds the deleted objects that one interest remembers between
// two snapshots.
const maxTombstones = 4096

// change is one message of the bus.
type change[T proto.Message] struct {
	name     string
	object   T
	deleted  bool
	sequence uint64
	previous uint64 // sequence of the key's change before this one, 0: none
}

// takeChange takes over one message of the bus.
func (f *Follower[T]) takeChange(in *interest[T], msg *nats.Msg) {
	c, err := f.readChange(msg)
	if err != nil {
		f.log.Warn("change of an object cannot be read, keeping what is known", "subject", msg.Subject, "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.interests[in.name] != in {
		return // dropped meanwhile
	}
	shard := bus.Shard(f.key(c.name))
	in.newest[shard] = max(in.newest[shard], c.sequence)
	known := max(in.objects[c.name].revision, in.coverage)
	if c.sequence <= known {
		return
	}
	if in.listed && c.previous > known {
		// A change of this key passed us by, and who knows what else.
		for _, other := range f.interests {
			other.doubt(0)
		}
		in.need = max(in.need, c.previous)
		f.wakeLister.give()
	}
	f.set(in, c.name, record[T]{object: c.object, revision: c.sequence, gone: c.deleted})
	in.bury()
	f.announce()
}

// set stores what is known of an object now, and tells of it. The lock is held.
func (f *Follower[T]) set(in *interest[T], name string, rec record[T]) {
	old, found := in.objects[name]
	in.remember(name, rec)
	if rec.gone && (!found || old.gone) {
		return
	}
	f.enqueue(Event[T]{Name: name, Object: rec.object, Deleted: rec.gone, Revision: rec.revision})
}

// remember stores a record and keeps count of tombstones.
func (in *interest[T]) remember(name string, rec record[T]) {
	in.forget(name)
	in.objects[name] = rec
	in.highest = max(in.highest, rec.revision)
	if rec.gone {
		in.tombstones++
	}
}

// forget removes a record.
func (in *interest[T]) forget(name string) {
	if in.objects[name].gone {
		in.tombstones--
	}
	delete(in.objects, name)
}

// bury forgets the tombstones when there are too many, and remembers that a
// snapshot older than them would bring the dead back.
func (in *interest[T]) bury() {
	if in.tombstones <= maxTombstones {
		return
	}
	for name, rec := range in.objects {
		if rec.gone {
			in.buried = max(in.buried, rec.revision)
			in.forget(name)
		}
	}
}

func (f *Follower[T]) readChange(msg *nats.Msg) (c change[T], err error) {
	if c.sequence, err = strconv.ParseUint(msg.Header.Get(bus.HeaderSequence), 10, 64); err != nil {
		return c, fmt.Errorf("read sequence: %w", err)
	}
	if c.previous, err = strconv.ParseUint(msg.Header.Get(bus.HeaderLastSequence), 10, 64); err != nil {
		return c, fmt.Errorf("read last sequence: %w", err)
	}
	if c.name, err = f.readName(msg.Subject); err != nil {
		return c, err
	}
	if c.deleted = msg.Header.Get(bus.HeaderOperation) != ""; c.deleted {
		return c, nil
	}
	c.object, err = f.codec.decode(msg.Data, c.sequence)
	return c, err
}

// readName answers the name of the object that a subject is about.
func (f *Follower[T]) readName(subject string) (string, error) {
	prefix := bus.Prefix(f.source.Service) + "." + f.source.Kind + "."
	tokens, found := strings.CutPrefix(subject, prefix)
	if !found {
		return "", fmt.Errorf("subject is not under %s", prefix)
	}
	if !f.source.Nested {
		return token.Decode(tokens)
	}
	var names []string
	for tok := range strings.SplitSeq(tokens, ".") {
		name, err := token.Decode(tok)
		if err != nil {
			return "", err
		}
		names = append(names, name)
	}
	return strings.Join(names, "/"), nil
}

// codec turns T from and to bytes.
type codec[T proto.Message] struct {
	kind     protoreflect.Message // an empty T
	revision protoreflect.FieldDescriptor
}

func newCodec[T proto.Message]() codec[T] {
	var zero T
	c := codec[T]{kind: zero.ProtoReflect()}
	if field := c.kind.Descriptor().Fields().ByName("revision"); field != nil &&
		field.Kind() == protoreflect.Uint64Kind && !field.IsList() {
		c.revision = field
	}
	return c
}

// decode reads an object and fills its revision, which the store keeps as 0.
func (c codec[T]) decode(data []byte, revision uint64) (T, error) {
	message := c.kind.New()
	if err := proto.Unmarshal(data, message.Interface()); err != nil {
		var zero T
		return zero, fmt.Errorf("decode object: %w", err)
	}
	if c.revision != nil {
		message.Set(c.revision, protoreflect.ValueOfUint64(revision))
	}
	return message.Interface().(T), nil
}
