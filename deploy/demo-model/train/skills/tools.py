"""Function calling: choose one of several declared tools and fill its arguments, use a response, or answer without a tool."""
import json

from chat import Example, Turn
from .words import ANIMALS, CITIES, COLORS, NAMES, THINGS, letters, pick
from . import arithmetic, talk

S, I = 'string', 'integer'
# name stems, description, {argument: (type, description, maker of values)}, questions
def city(r): return r.choice(CITIES) if r.random() < 0.7 else letters(r, 4, 7).capitalize()
def person(r): return r.choice(NAMES) if r.random() < 0.7 else letters(r, 3, 6).capitalize()
def thing(r): return r.choice(THINGS) if r.random() < 0.7 else letters(r, 3, 7)
def small(r): return r.randint(1, 20)
def number(r): return r.randint(1, 999)

TOOLS = [
    (['get_weather', 'weather', 'weather_at', 'current_weather'], 'Get the weather of a city.', {'city': (S, 'City name', city)},
     ['What is the weather in {city}?', 'Is it raining in {city}?', 'How is the weather in {city} today?', 'Tell me the weather for {city}.'], ['{} degrees and sunny', 'rain, {} degrees', 'cloudy, {} degrees']),
    (['get_forecast', 'forecast', 'weather_forecast'], 'Forecast for the next days.', {'city': (S, 'City name', city), 'days': (I, 'Number of days', small)},
     ['Give me the forecast for {city} for {days} days.', 'What will the weather be in {city} over {days} days?', 'Forecast {city}, next {days} days.'], ['rain for {} days', 'sun for {} days']),
    (['send_email', 'email', 'mail_to'], 'Send an email.', {'to': (S, 'Receiver', person), 'subject': (S, 'Subject line', thing)},
     ['Send an email to {to} about {subject}.', 'Write {to} an email with the subject {subject}.', 'Email {to} about the {subject}.'], ['sent, number {}', 'queued as {}']),
    (['set_timer', 'timer', 'start_timer'], 'Start a timer.', {'minutes': (I, 'Minutes', small)},
     ['Set a timer for {minutes} minutes.', 'Start a timer of {minutes} minutes.', 'Wake me in {minutes} minutes.', 'Timer, {minutes} minutes.'], ['timer {} is running', 'started as {}']),
    (['search_shop', 'find_product', 'shop_search'], 'Search the shop.', {'item': (S, 'What to look for', thing), 'max_price': (I, 'Highest price', number)},
     ['Find a {item} for less than {max_price}.', 'Search the shop for {item} up to {max_price}.', 'I want to buy a {item} below {max_price}.'], ['found {} offers', '{} in stock']),
    (['add_item', 'add_to_list', 'list_add'], 'Add something to the shopping list.', {'item': (S, 'The item', thing), 'count': (I, 'How many', small)},
     ['Add {count} {item} to my list.', 'Put {count} {item} on the shopping list.', 'I need {count} {item}, add them to the list.'], ['the list has {} items', 'added, {} items now']),
    (['book_train', 'train_ticket', 'buy_ticket'], 'Book a train.', {'start': (S, 'From', city), 'goal': (S, 'To', city)},
     ['Book a train from {start} to {goal}.', 'I need a train ticket from {start} to {goal}.', 'Get me by train from {start} to {goal}.'], ['train {} is booked', 'seat {}']),
    (['call_person', 'phone', 'call_contact'], 'Call somebody.', {'name': (S, 'Whom to call', person)},
     ['Call {name}.', 'Phone {name}, please.', 'I want to talk to {name} on the phone.', 'Ring up {name}.'], ['{} did not answer', 'line {} is busy']),
    (['paint', 'set_color', 'paint_object'], 'Paint an object.', {'object': (S, 'What to paint', thing), 'color': (S, 'Color', lambda r: r.choice(COLORS))},
     ['Paint the {object} {color}.', 'Make the {object} {color}.', 'The {object} should be {color}.'], ['painted in {} minutes', 'done, {} left']),
    (['get_price', 'price_of', 'stock_price'], 'Price of something.', {'item': (S, 'The item', thing)},
     ['What does a {item} cost?', 'How much is a {item}?', 'Price of a {item}?', 'Tell me the price of the {item}.'], ['{} euros', 'it costs {}']),
    (['feed_animal', 'feed', 'give_food'], 'Feed an animal.', {'animal': (S, 'Which animal', lambda r: r.choice(ANIMALS)), 'grams': (I, 'Grams of food', number)},
     ['Feed the {animal} {grams} grams.', 'Give the {animal} {grams} grams of food.', 'The {animal} needs {grams} grams of food.'], ['{} grams left', 'fed, {} grams remain']),
    (['multiply', 'product', 'times'], 'Multiply two numbers.', {'a': (I, 'First number', number), 'b': (I, 'Second number', number)},
     ['Multiply {a} and {b} with the tool.', 'Use the tool for {a} times {b}.', 'What is {a} times {b}? Use a tool.'], ['{}', 'the product is {}']),
]
NONE = 'I have no tool for that.'


def variant(rng, t):
    names, description, arguments, questions, answers = t
    schema = {'name': rng.choice(names), 'description': description, 'parameters': {'type': 'object', 'properties': {
        k: {'type': kind, 'description': d} for k, (kind, d, _) in arguments.items()}, 'required': list(arguments)}}
    return schema


def question(rng):
    k = rng.randint(1, 4)
    chosen = rng.sample(range(len(TOOLS)), k + 1)
    tools = [variant(rng, TOOLS[i]) for i in chosen[:k]]
    fits = rng.random() < 0.78
    target = TOOLS[chosen[0] if fits else chosen[k]]
    args = {a: make(rng) for a, (_, _, make) in target[2].items()}
    text = rng.choice(target[3]).format(**args)
    turns = [Turn('user', text)]
    key = text + json.dumps(args)
    schema = tools[0] if fits else None
    rng.shuffle(tools)
    if not fits:
        return key, Example('tools', turns, NONE, tools=tools, meta={'kind': 'none'})
    if rng.random() < 0.35:
        response = rng.choice(target[4]).format(rng.randint(1, 99))
        return key, Example('tools', turns, f'The tool says: {response}.', tools=tools, responses=[(schema['name'], args, response)], meta={'kind': 'response'})
    return key, Example('tools', turns, calls=[(schema['name'], args)], tools=tools, meta={'kind': 'call'})


def example(rng, split):
    if rng.random() < 0.1:   # tools are there, the question needs none
        e = rng.choice([talk, arithmetic]).example(rng, split)
        e.tools = [variant(rng, t) for t in rng.sample(TOOLS, rng.randint(1, 3))]
        e.skill, e.meta = 'tools', {'kind': 'plain'}
        return e
    return pick(rng, question, split)
