"""Word lists for the sentences around an order. None of them names anything on the menu; see `phrases.py`."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("""
Aaron Abel Ada Adele Agnes Ahmed Aiko Aisha Alba Alex Alice Alma Amara Amir Ana Anders Anja Anton Ariel Arthur Astrid
Aya Bao Bea Ben Bianca Bilal Bjorn Bo Boris Bruno Camille Carl Carmen Cedric Celia Cem Chen Chloe Clara Claude Cora
Dagmar Dan Daria Deepak Delia Dev Dina Dmitri Dora Edith Edo Egon Elena Eli Elif Ella Emeka Emil Enzo Eric Esme Eva
Ezra Farid Fatima Felix Femi Finn Fiona Flora Frank Freya Gemma George Gita Greta Gus Hana Hank Haruki Hassan Hector
Heidi Helen Henrik Hugo Ian Ida Igor Ilse Imani Ines Ingrid Iris Isaac Ivan Jack Jade Jamal Jana Jasper Jin Joan Joao
Jonas Jose Joy Juan Jules June Kai Karim Kate Kenji Kiran Klaus Kofi Lars Laszlo Lea Leila Lena Leo Liam Lin Liz Lola
Luca Lucy Luis Luna Mads Magda Maja Malik Mara Marco Maria Marta Mateo Max Mei Mia Miguel Mila Milo Mina Miro Mona
Nadia Naomi Nate Nia Nico Nina Noah Noor Nora Odile Olaf Olga Oliver Omar Oscar Otto Paco Pablo Paul Pavel Pedro Per
Petra Phil Pia Priya Quinn Rafa Raj Ravi Remy Rita Rob Rohan Rosa Rosie Ruth Sadie Sam Samir Sana Sara Sasha Sean
Selma Seo Sergei Shan Silas Simon Sina Sofia Sol Stan Stella Sven Tala Tanya Tara Tariq Tess Theo Tim Tina Tom Tomas
Tove Uma Ursula Vera Viktor Vivi Wanda Wei Wes Will Xavier Yara Yasmin Yuki Yusuf Zach Zara Zoe
""")
SYLLABLES = _words("""
ba bel bor bri ca cor dal del dor dra el fen fir gal gor gra hal har hol il jor ka kel kir la lan lem lin lor lu mar
mel mir mo nal ner nim nor ol or pel pra quin ra rel rin ros sal sel shi sor ta tel tor tri ul van vel vin vor wen wil
xan yel yor zan zel
""")
RELATIONS = _words("""
aunt babysitter boss boyfriend brother buddy client colleague cousin coworker crew dad daughter doctor driver editor
father fiance flatmate friend girlfriend grandad grandma grandpa granny guest husband intern kid landlord manager mate
mechanic mentor mother mum neighbour nephew niece nurse partner pal professor roommate sister son student teacher team
teammate trainer twin uncle wife
""")
NOUNS = _words("""
accountant airport alarm album apartment argument audience autumn baby balcony ball band bank basement bath battery
beach bed bench bike bill bird birthday blanket board boat book boot bottle box boy branch bridge brush budget bus
button camera candle car card carpet castle cat ceiling chain chair channel chapter child church cinema circle class
clock cloud coat collar college concert contract cook corner council couch country course court crowd curtain cushion
customer dance deadline desk dinner dog door dream dress drill drum duck dust ear earth elbow elevator email engine
evening exam exhibition eye factory fair farm ferry festival field film finger fire fish flag flight floor flower
flute fog forest fork fountain fox fridge game garage garden gate ghost gift girl glove goat grass guitar gym hair
hall hammer hand hat head heart helmet hill holiday horse hospital hotel hour house idea island jacket job joke judge
jumper kettle key kitchen kite knee knife ladder lake lamp laptop laundry lawn lawyer leaf leg lesson letter library
light lion lock lunch machine mail map march market match meal meeting message mirror mistake moon morning mountain
mouse movie museum music nail neck needle news night noise nose notebook novel ocean office onion oven owl package
page paint painting pan paper parade parcel park party passport path pencil phone photo piano picture pigeon pillow
pipe plan plane planet plant plate play pocket poem police pond pool post poster potato present printer prize problem
project puddle puppy puzzle queue radio rain report river road robot roof room rope rug sail salad scarf school screen
season seat shelf ship shirt shoe shop show shower sign sink sky sleep snow sock sofa song soup speech spoon square
stage stairs star station stone storm story street suit summer sun surprise swim table tail tent test ticket tie tower
town toy traffic train tram tree trick trip truck tunnel umbrella uniform van vase village violin visit voice wall
watch water weather wedding weekend wheel wind window winter work workshop writer yard zoo
""")
ADJECTIVES = _words("""
amazing ancient angry anxious awful awkward beautiful blue bored brave bright brilliant broken busy calm careful cheap
cheerful clean clear clever cloudy clumsy cold cool crazy curious cute damp dark delayed difficult dirty dizzy dry
dull early easy elegant empty endless enormous excellent exhausted expensive famous fancy fast fine flat foggy foolish
freezing friendly full funny fuzzy gentle giant glad golden gorgeous grand grateful great green grey grumpy handy
happy heavy high hungry icy incredible jolly kind late lazy light lonely long loud lovely lucky mad massive messy mild
modern muddy narrow neat nervous new nice noisy odd old orange pale patient perfect pink polite poor pretty proud
purple quick quiet rainy rare red rich rough round rude rusty sad scary serious shaky sharp shiny short shy silent
silly silver sleepy slow smart smooth snowy soft sore spare special splendid steep sticky stiff strange strict
stubborn sudden sunny super sweet swift tall tame tender terrible thick thin thirsty tidy tired tough ugly unusual
urgent useful usual violet warm weak weird wet white wide wild windy wise wonderful wooden worn yellow young
""")
PAST_VERBS = _words("""
answered asked baked beat bit bought broke brought built burned called carried caught changed chased cleaned climbed
closed collected cooked counted covered crossed cut delivered designed drew dropped ended fed filled finished fixed
followed forgot found gave guarded heard helped hid hit invited joined kept kicked knew left lifted liked lost loved
made met missed moved needed noticed opened ordered painted parked passed photographed picked played praised promised
pulled pushed raced reached read recommended remembered repaired rescued saved saw scratched sent shook showed
sketched smelled sold spotted started stole stopped studied swept talked taught threw tied told took touched tried
turned used visited waited walked wanted washed watched woke won wrote
""")
DOING = _words("""
baking camping celebrating cleaning climbing coding commuting cycling dancing debugging decorating digging drawing
driving exercising filming fishing fixing gardening hiding hiking hunting jogging juggling knitting marching moving
painting parking playing practising queueing racing reading rehearsing revising rowing running sailing sewing
shivering shopping shovelling singing skating skiing sleeping sneezing strolling studying swimming talking training
travelling typing unpacking waiting walking wandering washing working wrestling writing
""")
PLACES = _words("""
airport aquarium bank barn beach bookshop bridge building cabin campus canal castle cathedral cinema clinic college
courthouse dentist depot dock embassy embankment factory fair farm ferry field gallery garage garden gym harbour
hospital hostel hotel island lab lake library lighthouse lobby market meadow mill mountain museum observatory office
opera orchard palace park pier planetarium plaza pool port pub quarry quay registry restaurant river school shelter
shop skatepark square stadium station street studio summit swamp theatre tower town tunnel university valley village
vineyard warehouse workshop zoo
""")
EVENTS = _words("""
appointment audition barbecue class concert conference deadline demo exam exhibition festival flight funeral game
graduation hike interview lecture lesson marathon match meeting move parade party picnic play presentation quiz race
recital rehearsal retreat reunion run seminar shift show shoot sprint summit tournament training trial trip wedding
workshop
""")
MOODS = _words("""
alive annoyed awake better broke cheerful chilly confused curious dizzy drained excited exhausted fine freezing frozen
giddy glad good grumpy happy hungry hungover impatient lazy lost lucky nervous overworked peckish relieved rested
restless rushed shattered sleepy soaked starving stressed sweaty thirsty tired wiped worried
""")
WEATHER = _words("""
baking blustery boiling bright chilly cloudy cold dark dreadful drizzly dry foggy freezing frosty glorious gloomy
gorgeous grey hot humid icy lovely miserable misty muggy nippy pouring rainy scorching snowy stormy sunny sweltering
warm wet wild windy
""")
DAYS = _words("""
Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August September
October November December
""")
ADVERBS = _words("""
absolutely actually almost already always apparently badly barely basically certainly clearly completely constantly
definitely desperately easily eventually finally frankly frequently fully gladly happily hardly honestly hopefully
incredibly kindly lately literally luckily mainly maybe mostly nearly normally obviously oddly officially often
possibly pretty probably properly quickly quietly quite rarely rather really recently sadly seriously simply slightly
slowly somehow sometimes soon still strangely suddenly supposedly surely surprisingly terribly thankfully totally
truly typically unexpectedly usually utterly
""")
