package bucket

import (
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Reader is what a Table reads from: a Snapshot, a Bucket's latest one, or a Tx.
type Reader interface {
	Get(key string) (Entry, bool)
	Scan(prefix, after string) iter.Seq[Entry]
}

// Table is the objects of one kind in a bucket, as protobuf messages. Their
// names are key tokens, one or several. A field named "revision" of type
// uint64, if the message has one, is the key's store sequence: filled when
// read, stored as 0.
type Table[T proto.Message] struct {
	kind     string
	revision protoreflect.FieldDescriptor
}

// NewTable answers the table of a kind, lower-case letters. T is a pointer to a
// generated message.
func NewTable[T proto.Message](kind string) Table[T] {
	var zero T
	field := zero.ProtoReflect().Descriptor().Fields().ByName("revision")
	if field != nil && (field.Kind() != protoreflect.Uint64Kind || field.IsList()) {
		field = nil
	}
	return Table[T]{kind: kind, revision: field}
}

// Key answers the key of an object.
func (t Table[T]) Key(names ...string) string { return Key(t.kind, names...) }

// Get answers an object and whether it exists. An error means that the store
// holds something else than T under its key.
func (t Table[T]) Get(r Reader, names ...string) (object T, exists bool, err error) {
	e, exists := r.Get(t.Key(names...))
	if !exists {
		return object, false, nil
	}
	object, err = t.decode(e)
	return object, err == nil, err
}

// Scan answers the objects in order of key that come after the named one, or
// all if no name is given. Each comes with its error: see Get.
func (t Table[T]) Scan(r Reader, after ...string) iter.Seq2[T, error] {
	start := ""
	if len(after) > 0 {
		start = t.Key(after...)
	}
	return t.scan(r, t.kind+".", start)
}

// ScanUnder answers the objects whose first names are the given ones, in order
// of key: the pods of a namespace, say.
func (t Table[T]) ScanUnder(r Reader, names ...string) iter.Seq2[T, error] {
	return t.scan(r, t.Key(names...)+".", "")
}

func (t Table[T]) scan(r Reader, prefix, after string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for e := range r.Scan(prefix, after) {
			if !yield(t.decode(e)) {
				return
			}
		}
	}
}

// List answers all objects in order of key.
func (t Table[T]) List(r Reader) ([]T, error) {
	var objects []T
	for object, err := range t.Scan(r) {
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// Put writes an object under its names. The object is not changed and not kept.
func (t Table[T]) Put(tx *Tx, object T, names ...string) {
	message := object.ProtoReflect()
	if t.revision != nil && message.Has(t.revision) {
		message = proto.Clone(object).ProtoReflect()
		message.Clear(t.revision)
	}
	// Deterministic, so that writing an object unchanged is seen as no change.
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(message.Interface())
	if err != nil {
		tx.Fail(fmt.Errorf("encode %s: %w", t.Key(names...), err))
		return
	}
	tx.Put(t.Key(names...), value)
}

// Delete removes an object, if it exists.
func (t Table[T]) Delete(tx *Tx, names ...string) { tx.Delete(t.Key(names...)) }

// Touch makes the commit fail if somebody changes the object meanwhile: see
// Tx.Touch.
func (t Table[T]) Touch(tx *Tx, names ...string) { tx.Touch(t.Key(names...)) }

func (t Table[T]) decode(e Entry) (T, error) {
	var zero T
	message := zero.ProtoReflect().New()
	if err := proto.Unmarshal(e.Value, message.Interface()); err != nil {
		return zero, fmt.Errorf("decode %s at revision %d: %w", e.Key, e.Revision, err)
	}
	if t.revision != nil {
		message.Set(t.revision, protoreflect.ValueOfUint64(e.Revision))
	}
	return message.Interface().(T), nil
}
