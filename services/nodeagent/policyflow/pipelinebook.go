package policyflow

// NewInPipeline answers a book without policies and pods for the tables that the
// pipeline has for them.
func NewInPipeline() *Book {
	b, err := New(Tables())
	if err != nil {
		panic(err) // The layout is a constant, and a test makes it.
	}
	return b
}
